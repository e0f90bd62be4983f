-- A ledger that this project's code made at commit 007aec4.
BEGIN TRANSACTION;
CREATE TABLE "gzip_support" (
	vtn_id INTEGER NOT NULL,
	is_taken BOOLEAN NOT NULL,
	asked_at_s BIGINT NOT NULL,
	PRIMARY KEY (vtn_id)
);
INSERT INTO "gzip_support" VALUES(1,1,1795912241);
CREATE TABLE leases (
	vtn_id INTEGER NOT NULL,
	ven TEXT NOT NULL,
	writer_id INTEGER NOT NULL,
	PRIMARY KEY (vtn_id, ven)
)
 WITHOUT ROWID

;
INSERT INTO "leases" VALUES(1,'Aalborg',1);
CREATE TABLE ledger_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT ledger_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "ledger_version" VALUES('0004');
CREATE TABLE "limits" (
	vtn_id INTEGER NOT NULL,
	concurrency INTEGER NOT NULL,
	chunk_size INTEGER NOT NULL,
	PRIMARY KEY (vtn_id)
);
INSERT INTO "limits" VALUES(1,8,20000);
CREATE TABLE marks (
	vtn_id INTEGER NOT NULL,
	vtn_resource_id TEXT NOT NULL,
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
INSERT INTO "marks" VALUES(1,'load-4',202501,1,1736928000,X'21B553C6AA1203A2B76EBD52CF697AA6');
CREATE TABLE refused (
	vtn_id INTEGER NOT NULL,
	vtn_resource_id TEXT NOT NULL,
	start_s BIGINT NOT NULL,
	power_w FLOAT NOT NULL,
	answer TEXT NOT NULL,
	PRIMARY KEY (vtn_id, vtn_resource_id, start_s)
)
 WITHOUT ROWID

;
INSERT INTO "refused" VALUES(1,'load-4',1736928000,256.9,'422');
CREATE TABLE reports (
	vtn_id INTEGER NOT NULL, 
	vtn_resource_id TEXT NOT NULL, 
	period TEXT NOT NULL, 
	report_id TEXT NOT NULL, 
	event_id TEXT NOT NULL, 
	form BLOB NOT NULL, 
	PRIMARY KEY (vtn_id, vtn_resource_id, period)
)
 WITHOUT ROWID

;
CREATE TABLE requests (
	vtn_id INTEGER NOT NULL,
	vtn_resource_id TEXT NOT NULL,
	ended_at_us BIGINT NOT NULL,
	points INTEGER NOT NULL,
	seconds FLOAT NOT NULL,
	answers TEXT NOT NULL,
	error TEXT, reason TEXT,
	PRIMARY KEY (vtn_id, vtn_resource_id, ended_at_us)
)
 WITHOUT ROWID

;
INSERT INTO "requests" VALUES(1,'load-1',1795912241317986,300,0.5,'503 201',NULL,NULL);
INSERT INTO "requests" VALUES(1,'load-1',1795912241321832,300,0.5,'503 201',NULL,NULL);
INSERT INTO "requests" VALUES(1,'load-1',1795912241322548,300,0.5,'503 201',NULL,NULL);
INSERT INTO "requests" VALUES(1,'load-1',1795912241323139,100,0.5,'503 201',NULL,NULL);
INSERT INTO "requests" VALUES(1,'load-2',1795912241325751,300,0.5,'503 201',NULL,'2025-01 again: corrected month');
INSERT INTO "requests" VALUES(1,'load-3',1795912241326412,0,0.0,'','H5 meter ''æ'' not found',NULL);
INSERT INTO "requests" VALUES(1,'load-4',1795912241399126,0,0.0,'','422',NULL);
CREATE TABLE runs (
	vtn_id INTEGER NOT NULL,
	ended_at_us BIGINT NOT NULL,
	points BIGINT NOT NULL,
	seconds FLOAT NOT NULL,
	PRIMARY KEY (vtn_id, ended_at_us)
)
 WITHOUT ROWID

;
INSERT INTO "runs" VALUES(1,1795912241401298,1300,0.65);
CREATE TABLE uploads (
	vtn_id INTEGER NOT NULL,
	vtn_resource_id TEXT NOT NULL,
	state TEXT NOT NULL,
	error TEXT,
	settled_at_s BIGINT NOT NULL,
	PRIMARY KEY (vtn_id, vtn_resource_id)
)
 WITHOUT ROWID

;
INSERT INTO "uploads" VALUES(1,'load-1','done',NULL,1795912241);
INSERT INTO "uploads" VALUES(1,'load-2','pending',NULL,1795912241);
INSERT INTO "uploads" VALUES(1,'load-3','failed','H5 meter ''æ'' not found',1795912241);
INSERT INTO "uploads" VALUES(1,'load-4','pending',NULL,1795912241);
CREATE TABLE "vtns" (
	vtn_id INTEGER NOT NULL, 
	base_url TEXT NOT NULL, 
	wire TEXT DEFAULT 'bulk' NOT NULL, 
	PRIMARY KEY (vtn_id), 
	CONSTRAINT vtns_wire_base_url_key UNIQUE (wire, base_url)
);
INSERT INTO "vtns" VALUES(1,'http://vtn.example/openadr3','bulk');
CREATE TABLE writers (
	writer_id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	run_id TEXT NOT NULL,
	parent_run_id TEXT,
	title TEXT NOT NULL,
	process TEXT NOT NULL,
	beat INTEGER NOT NULL,
	progress_json TEXT DEFAULT '' NOT NULL
);
INSERT INTO "writers" VALUES(1,'run-1',NULL,'Flow run ''a'' on host (process 1)','THE-PROCESS',0,'');
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('writers',1);
COMMIT;
