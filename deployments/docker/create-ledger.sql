-- Run once, when the database server is created: the ledger has a database of its own.
CREATE DATABASE ledger;
