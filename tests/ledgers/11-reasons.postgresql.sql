-- A ledger that this project's code made at commit 007aec4.

CREATE TABLE public.gzip_support (
    vtn_id integer NOT NULL,
    is_taken boolean NOT NULL,
    asked_at_s bigint NOT NULL
);

CREATE SEQUENCE public.gzips_vtn_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.gzips_vtn_id_seq OWNED BY public.gzip_support.vtn_id;

CREATE TABLE public.leases (
    vtn_id integer NOT NULL,
    ven text NOT NULL,
    writer_id integer NOT NULL
);

CREATE TABLE public.ledger_version (
    version_num character varying(32) NOT NULL
);

CREATE TABLE public.limits (
    vtn_id integer NOT NULL,
    concurrency integer NOT NULL,
    chunk_size integer NOT NULL
);

CREATE TABLE public.marks (
    vtn_id integer NOT NULL,
    vtn_resource_id text NOT NULL,
    month integer NOT NULL,
    points integer NOT NULL,
    last_start_s bigint NOT NULL,
    digest bytea NOT NULL
);

CREATE SEQUENCE public.paces_vtn_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.paces_vtn_id_seq OWNED BY public.limits.vtn_id;

CREATE TABLE public.refused (
    vtn_id integer NOT NULL,
    vtn_resource_id text NOT NULL,
    start_s bigint NOT NULL,
    power_w double precision NOT NULL,
    answer text NOT NULL
);

CREATE TABLE public.reports (
    vtn_id integer NOT NULL,
    vtn_resource_id text NOT NULL,
    period text NOT NULL,
    report_id text NOT NULL,
    event_id text NOT NULL,
    form bytea NOT NULL
);

CREATE TABLE public.requests (
    vtn_id integer NOT NULL,
    vtn_resource_id text NOT NULL,
    ended_at_us bigint NOT NULL,
    points integer NOT NULL,
    seconds double precision NOT NULL,
    answers text NOT NULL,
    error text,
    reason text
);

CREATE TABLE public.runs (
    vtn_id integer NOT NULL,
    ended_at_us bigint NOT NULL,
    points bigint NOT NULL,
    seconds double precision NOT NULL
);

CREATE TABLE public.uploads (
    vtn_id integer NOT NULL,
    vtn_resource_id text NOT NULL,
    state text NOT NULL,
    error text,
    settled_at_s bigint NOT NULL
);

CREATE TABLE public.vtns (
    vtn_id integer NOT NULL,
    base_url text NOT NULL,
    wire text DEFAULT 'bulk'::text NOT NULL
);

CREATE SEQUENCE public.vtns_vtn_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.vtns_vtn_id_seq OWNED BY public.vtns.vtn_id;

CREATE TABLE public.writers (
    writer_id integer NOT NULL,
    run_id text NOT NULL,
    parent_run_id text,
    title text NOT NULL,
    process text NOT NULL,
    beat integer NOT NULL,
    progress_json text DEFAULT ''::text NOT NULL
);

CREATE SEQUENCE public.writers_writer_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.writers_writer_id_seq OWNED BY public.writers.writer_id;

ALTER TABLE ONLY public.gzip_support ALTER COLUMN vtn_id SET DEFAULT nextval('public.gzips_vtn_id_seq'::regclass);

ALTER TABLE ONLY public.limits ALTER COLUMN vtn_id SET DEFAULT nextval('public.paces_vtn_id_seq'::regclass);

ALTER TABLE ONLY public.vtns ALTER COLUMN vtn_id SET DEFAULT nextval('public.vtns_vtn_id_seq'::regclass);

ALTER TABLE ONLY public.writers ALTER COLUMN writer_id SET DEFAULT nextval('public.writers_writer_id_seq'::regclass);

INSERT INTO public.gzip_support VALUES (1, true, 1795912245);

INSERT INTO public.leases VALUES (1, 'Aalborg', 1);

INSERT INTO public.ledger_version VALUES ('0004');

INSERT INTO public.limits VALUES (1, 8, 20000);

INSERT INTO public.marks VALUES (1, 'load-1', 202501, 400, 1738364400, '\x72a65011d1e2b6d60c9f2146db35d055');
INSERT INTO public.marks VALUES (1, 'load-1', 202502, 600, 1740524400, '\x2f37ff38746b3d3bc30c30da111d2f8a');
INSERT INTO public.marks VALUES (1, 'load-2', 202501, 300, 1738004400, '\xe1243d6eca2df5bd80c0639cc9684c7c');
INSERT INTO public.marks VALUES (1, 'load-4', 202501, 1, 1736928000, '\x21b553c6aa1203a2b76ebd52cf697aa6');

INSERT INTO public.refused VALUES (1, 'load-4', 1736928000, 256.9, '422');

INSERT INTO public.requests VALUES (1, 'load-1', 1795912245108842, 300, 0.5, '503 201', NULL, NULL);
INSERT INTO public.requests VALUES (1, 'load-1', 1795912245118783, 300, 0.5, '503 201', NULL, NULL);
INSERT INTO public.requests VALUES (1, 'load-1', 1795912245122808, 300, 0.5, '503 201', NULL, NULL);
INSERT INTO public.requests VALUES (1, 'load-1', 1795912245126759, 100, 0.5, '503 201', NULL, NULL);
INSERT INTO public.requests VALUES (1, 'load-2', 1795912245133020, 300, 0.5, '503 201', NULL, '2025-01 again: corrected month');
INSERT INTO public.requests VALUES (1, 'load-3', 1795912245136933, 0, 0, '', 'H5 meter ''æ'' not found', NULL);
INSERT INTO public.requests VALUES (1, 'load-4', 1795912245430023, 0, 0, '', '422', NULL);

INSERT INTO public.runs VALUES (1, 1795912245436623, 1300, 0.65);

INSERT INTO public.uploads VALUES (1, 'load-1', 'done', NULL, 1795912245);
INSERT INTO public.uploads VALUES (1, 'load-2', 'pending', NULL, 1795912245);
INSERT INTO public.uploads VALUES (1, 'load-3', 'failed', 'H5 meter ''æ'' not found', 1795912245);
INSERT INTO public.uploads VALUES (1, 'load-4', 'pending', NULL, 1795912245);

INSERT INTO public.vtns VALUES (1, 'http://vtn.example/openadr3', 'bulk');

INSERT INTO public.writers VALUES (1, 'run-1', NULL, 'Flow run ''a'' on host (process 1)', 'THE-PROCESS', 0, '');

SELECT pg_catalog.setval('public.gzips_vtn_id_seq', 1, false);

SELECT pg_catalog.setval('public.paces_vtn_id_seq', 1, false);

SELECT pg_catalog.setval('public.vtns_vtn_id_seq', 1, true);

SELECT pg_catalog.setval('public.writers_writer_id_seq', 1, true);

ALTER TABLE ONLY public.gzip_support
    ADD CONSTRAINT gzips_pkey PRIMARY KEY (vtn_id);

ALTER TABLE ONLY public.leases
    ADD CONSTRAINT leases_pkey PRIMARY KEY (vtn_id, ven);

ALTER TABLE ONLY public.ledger_version
    ADD CONSTRAINT ledger_version_pkc PRIMARY KEY (version_num);

ALTER TABLE ONLY public.marks
    ADD CONSTRAINT marks_pkey PRIMARY KEY (vtn_id, vtn_resource_id, month);

ALTER TABLE ONLY public.limits
    ADD CONSTRAINT paces_pkey PRIMARY KEY (vtn_id);

ALTER TABLE ONLY public.refused
    ADD CONSTRAINT refused_pkey PRIMARY KEY (vtn_id, vtn_resource_id, start_s);

ALTER TABLE ONLY public.reports
    ADD CONSTRAINT reports_pkey PRIMARY KEY (vtn_id, vtn_resource_id, period);

ALTER TABLE ONLY public.requests
    ADD CONSTRAINT requests_pkey PRIMARY KEY (vtn_id, vtn_resource_id, ended_at_us);

ALTER TABLE ONLY public.runs
    ADD CONSTRAINT runs_pkey PRIMARY KEY (vtn_id, ended_at_us);

ALTER TABLE ONLY public.uploads
    ADD CONSTRAINT uploads_pkey PRIMARY KEY (vtn_id, vtn_resource_id);

ALTER TABLE ONLY public.vtns
    ADD CONSTRAINT vtns_pkey PRIMARY KEY (vtn_id);

ALTER TABLE ONLY public.vtns
    ADD CONSTRAINT vtns_wire_base_url_key UNIQUE (wire, base_url);

ALTER TABLE ONLY public.writers
    ADD CONSTRAINT writers_pkey PRIMARY KEY (writer_id);
