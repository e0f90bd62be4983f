-- Run once, when the database server is made: the ledger has a database of its own.
CREATE DATABASE ledger;
