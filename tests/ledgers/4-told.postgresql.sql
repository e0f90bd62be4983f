-- A ledger that this project's code made at commit 27d1b98.

CREATE TABLE public.leases (
    vtn_id integer NOT NULL,
    ven character varying NOT NULL,
    writer_id integer NOT NULL
);

CREATE TABLE public.marks (
    vtn_id integer NOT NULL,
    vtn_resource_id character varying NOT NULL,
    month integer NOT NULL,
    points integer NOT NULL,
    last_start_s bigint NOT NULL,
    digest bytea NOT NULL
);

CREATE TABLE public.requests (
    vtn_id integer NOT NULL,
    vtn_resource_id character varying NOT NULL,
    ended_at_us bigint NOT NULL,
    points integer NOT NULL,
    seconds double precision NOT NULL,
    answers text NOT NULL,
    error text
);

CREATE TABLE public.runs (
    vtn_id integer NOT NULL,
    ended_at_us bigint NOT NULL,
    points bigint NOT NULL,
    seconds double precision NOT NULL
);

CREATE TABLE public.uploads (
    vtn_id integer NOT NULL,
    vtn_resource_id character varying NOT NULL,
    state character varying(8) NOT NULL,
    error text,
    settled_at_s bigint NOT NULL
);

CREATE TABLE public.vtns (
    vtn_id integer NOT NULL,
    base_url text NOT NULL
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
    told text NOT NULL
);

CREATE SEQUENCE public.writers_writer_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.writers_writer_id_seq OWNED BY public.writers.writer_id;

ALTER TABLE ONLY public.vtns ALTER COLUMN vtn_id SET DEFAULT nextval('public.vtns_vtn_id_seq'::regclass);

ALTER TABLE ONLY public.writers ALTER COLUMN writer_id SET DEFAULT nextval('public.writers_writer_id_seq'::regclass);

INSERT INTO public.leases VALUES (1, 'Aalborg', 1);

INSERT INTO public.marks VALUES (1, 'load-1', 202501, 400, 1738364400, '\x72a65011d1e2b6d60c9f2146db35d055');
INSERT INTO public.marks VALUES (1, 'load-1', 202502, 600, 1740524400, '\x2f37ff38746b3d3bc30c30da111d2f8a');
INSERT INTO public.marks VALUES (1, 'load-2', 202501, 300, 1738004400, '\xe1243d6eca2df5bd80c0639cc9684c7c');

INSERT INTO public.requests VALUES (1, 'load-1', 1795875672197940, 300, 0.5, '503 201', NULL);
INSERT INTO public.requests VALUES (1, 'load-1', 1795875672214778, 300, 0.5, '503 201', NULL);
INSERT INTO public.requests VALUES (1, 'load-1', 1795875672223204, 300, 0.5, '503 201', NULL);
INSERT INTO public.requests VALUES (1, 'load-1', 1795875672230455, 100, 0.5, '503 201', NULL);
INSERT INTO public.requests VALUES (1, 'load-2', 1795875672240308, 300, 0.5, '503 201', NULL);
INSERT INTO public.requests VALUES (1, 'load-3', 1795875672250995, 0, 0, '', 'H5 meter ''æ'' not found');

INSERT INTO public.runs VALUES (1, 1795875672256380, 1300, 0.65);

INSERT INTO public.uploads VALUES (1, 'load-1', 'done', NULL, 1795875672);
INSERT INTO public.uploads VALUES (1, 'load-2', 'pending', NULL, 1795875672);
INSERT INTO public.uploads VALUES (1, 'load-3', 'failed', 'H5 meter ''æ'' not found', 1795875672);

INSERT INTO public.vtns VALUES (1, 'http://vtn.example/openadr3');

INSERT INTO public.writers VALUES (1, 'run-1', NULL, 'Flow run ''a'' on host (process 1)', 'THE-PROCESS', 0, '');

SELECT pg_catalog.setval('public.vtns_vtn_id_seq', 1, true);

SELECT pg_catalog.setval('public.writers_writer_id_seq', 1, true);

ALTER TABLE ONLY public.leases
    ADD CONSTRAINT leases_pkey PRIMARY KEY (vtn_id, ven);

ALTER TABLE ONLY public.marks
    ADD CONSTRAINT marks_pkey PRIMARY KEY (vtn_id, vtn_resource_id, month);

ALTER TABLE ONLY public.requests
    ADD CONSTRAINT requests_pkey PRIMARY KEY (vtn_id, vtn_resource_id, ended_at_us);

ALTER TABLE ONLY public.runs
    ADD CONSTRAINT runs_pkey PRIMARY KEY (vtn_id, ended_at_us);

ALTER TABLE ONLY public.uploads
    ADD CONSTRAINT uploads_pkey PRIMARY KEY (vtn_id, vtn_resource_id);

ALTER TABLE ONLY public.vtns
    ADD CONSTRAINT vtns_base_url_key UNIQUE (base_url);

ALTER TABLE ONLY public.vtns
    ADD CONSTRAINT vtns_pkey PRIMARY KEY (vtn_id);

ALTER TABLE ONLY public.writers
    ADD CONSTRAINT writers_pkey PRIMARY KEY (writer_id);

