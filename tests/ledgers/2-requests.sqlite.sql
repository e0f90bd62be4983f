-- A ledger that this project's code made at commit b704eaa.
BEGIN TRANSACTION;
CREATE TABLE marks (
	vtn_id INTEGER NOT NULL,
	vtn_resource_id VARCHAR NOT NULL,
	month INTEGER NOT NULL,
	points INTEGER NOT NULL,
	last_start_s BIGINT NOT NULL,
	digest BLOB NOT NULL,
	PRIMARY KEY (vtn_id, vtn_resource_id, month)
)
 WITHOUT ROWID

;
INSERT INTO "marks" VALUES(1,'load-1',202501,400,1738364400,X'72A65011D1E2B6D60C9F2146DB35D055');
INSERT INTO "marks" VALUES(1,'load-1',202502,600,1740524400,X'2F37FF38746B3D3BC30C30DA111D2F8A');
INSERT INTO "marks" VALUES(1,'load-2',202501,300,1738004400,X'E1243D6ECA2DF5BD80C0639CC9684C7C');
CREATE TABLE requests (
	vtn_id INTEGER NOT NULL,
	vtn_resource_id VARCHAR NOT NULL,
	ended_at_us BIGINT NOT NULL,
	points INTEGER NOT NULL,
	seconds FLOAT NOT NULL,
	answers TEXT NOT NULL,
	error TEXT,
	PRIMARY KEY (vtn_id, vtn_resource_id, ended_at_us)
)
 WITHOUT ROWID

;
INSERT INTO "requests" VALUES(1,'load-1',1795875650168023,300,0.5,'503 201',NULL);
INSERT INTO "requests" VALUES(1,'load-1',1795875650190137,300,0.5,'503 201',NULL);
INSERT INTO "requests" VALUES(1,'load-1',1795875650197725,300,0.5,'503 201',NULL);
INSERT INTO "requests" VALUES(1,'load-1',1795875650206537,100,0.5,'503 201',NULL);
INSERT INTO "requests" VALUES(1,'load-2',1795875650220487,300,0.5,'503 201',NULL);
INSERT INTO "requests" VALUES(1,'load-3',1795875650222669,0,0.0,'','H5 meter ''æ'' not found');
CREATE TABLE runs (
	vtn_id INTEGER NOT NULL,
	ended_at_us BIGINT NOT NULL,
	points BIGINT NOT NULL,
	seconds FLOAT NOT NULL,
	PRIMARY KEY (vtn_id, ended_at_us)
)
 WITHOUT ROWID

;
INSERT INTO "runs" VALUES(1,1795875650228898,1300,0.65);
CREATE TABLE uploads (
	vtn_id INTEGER NOT NULL,
	vtn_resource_id VARCHAR NOT NULL,
	state VARCHAR(8) NOT NULL,
	error TEXT,
	settled_at_s BIGINT NOT NULL,
	PRIMARY KEY (vtn_id, vtn_resource_id)
)
 WITHOUT ROWID

;
INSERT INTO "uploads" VALUES(1,'load-1','done',NULL,1795875650);
INSERT INTO "uploads" VALUES(1,'load-2','pending',NULL,1795875650);
INSERT INTO "uploads" VALUES(1,'load-3','failed','H5 meter ''æ'' not found',1795875650);
CREATE TABLE vtns (
	vtn_id INTEGER NOT NULL,
	base_url TEXT NOT NULL,
	PRIMARY KEY (vtn_id),
	UNIQUE (base_url)
);
INSERT INTO "vtns" VALUES(1,'http://vtn.example/openadr3');
COMMIT;
