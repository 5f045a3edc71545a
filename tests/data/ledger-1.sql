PRAGMA application_id = 1685081137;
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
BEGIN TRANSACTION;
CREATE TABLE budgets (
            dataset TEXT PRIMARY KEY NOT NULL,
            meter TEXT NOT NULL CHECK (meter = 'basic'),
            cap_epsilon INTEGER NOT NULL CHECK (typeof(cap_epsilon) = 'integer' AND cap_epsilon > 0),
            cap_delta INTEGER NOT NULL CHECK (typeof(cap_delta) = 'integer' AND cap_delta > 0),
            spent_epsilon INTEGER NOT NULL CHECK (typeof(spent_epsilon) = 'integer' AND spent_epsilon >= 0),
            spent_delta INTEGER NOT NULL CHECK (typeof(spent_delta) = 'integer' AND spent_delta >= 0),
            held_epsilon INTEGER NOT NULL CHECK (typeof(held_epsilon) = 'integer' AND held_epsilon >= 0),
            held_delta INTEGER NOT NULL CHECK (typeof(held_delta) = 'integer' AND held_delta >= 0),
            head_seq INTEGER NOT NULL CHECK (typeof(head_seq) = 'integer' AND head_seq >= 1),
            head_hash TEXT NOT NULL,
            CHECK (spent_epsilon <= cap_epsilon - held_epsilon),
            CHECK (spent_delta <= cap_delta - held_delta)
        );
INSERT INTO "budgets" VALUES('people','basic',10000000000000,100000000000000,4000000000000,4000000000000,1000000000000,1000000000000,16,'643b76b563b27486ffb4ca90f0d9fc5356d13293b1dfaa9a9e3e7a5cbe69dd37');
INSERT INTO "budgets" VALUES('unused','basic',1000000000000,1000000000000,0,0,0,0,1,'74ecc15a48166828fbb13fb514f7c02cbfcf55b11159d1076ddf91657c25933d');
CREATE TABLE charges (
            id TEXT PRIMARY KEY NOT NULL,
            dataset TEXT NOT NULL REFERENCES budgets (dataset),
            key TEXT NOT NULL,
            epsilon INTEGER NOT NULL CHECK (typeof(epsilon) = 'integer' AND epsilon > 0),
            delta INTEGER NOT NULL CHECK (typeof(delta) = 'integer' AND delta > 0),
            state TEXT NOT NULL
                CHECK (state IN ('RESERVED', 'STARTED', 'PUBLISHED', 'SPENT_UNPUBLISHED', 'RELEASED')),
            fence INTEGER NOT NULL UNIQUE CHECK (typeof(fence) = 'integer' AND fence >= 1),
            attempt INTEGER NOT NULL CHECK (typeof(attempt) = 'integer' AND attempt >= 1),
            max_attempts INTEGER NOT NULL CHECK (typeof(max_attempts) = 'integer' AND max_attempts >= attempt),
            owner TEXT NOT NULL,
            release_id TEXT NOT NULL,
            policy_digest TEXT NOT NULL,
            path TEXT,
            manifest_sha256 TEXT,
            failed INTEGER NOT NULL CHECK (failed IN (0, 1))
        );
INSERT INTO "charges" VALUES('7acd423bf02149c732308c5c95cac0c2','people','published',1000000000000,1000000000000,'PUBLISHED',1,1,3,'{"host":"host","pid":4242,"token":""}','r-published','sha256:1','/releases/people/r-published','0000000000000000000000000000000000000000000000000000000000000000',0);
INSERT INTO "charges" VALUES('0a67eadf5894517e3677210b0fab6247','people','closed',1000000000000,1000000000000,'SPENT_UNPUBLISHED',3,1,3,'{"host":"host","pid":4242,"token":""}','r-closed','sha256:1','/releases/people/r-closed',NULL,0);
INSERT INTO "charges" VALUES('f665a6ea898b66f96008659d89a36d6d','people','released',1000000000000,1000000000000,'RELEASED',5,1,3,'{"host":"host","pid":4242,"token":""}','r-released','sha256:1','/releases/people/r-released',NULL,0);
INSERT INTO "charges" VALUES('4aa252b82da986fab001ba8675ea5d56','people','retried',1000000000000,1000000000000,'STARTED',7,2,3,'{"host":"host","pid":4242,"token":""}','r-retried','sha256:1','/releases/people/r-retried',NULL,0);
INSERT INTO "charges" VALUES('d2167c4ec90dfc1a0cbf9cfc5cafa465','people','started',1000000000000,1000000000000,'STARTED',8,1,3,'{"host":"host","pid":4242,"token":""}','r-started','sha256:1','/releases/people/r-started',NULL,0);
INSERT INTO "charges" VALUES('4dadfed4fa890632f99076aae40464ee','people','reserved',1000000000000,1000000000000,'RESERVED',9,1,3,'{"host":"host","pid":4242,"token":""}','r-reserved','sha256:1','/releases/people/r-reserved',NULL,0);
CREATE TABLE journal (
            dataset TEXT NOT NULL REFERENCES budgets (dataset),
            seq INTEGER NOT NULL CHECK (typeof(seq) = 'integer' AND seq >= 1),
            time TEXT NOT NULL,
            kind TEXT NOT NULL,
            charge_id TEXT NOT NULL,
            epsilon INTEGER NOT NULL CHECK (typeof(epsilon) = 'integer' AND epsilon >= 0),
            delta INTEGER NOT NULL CHECK (typeof(delta) = 'integer' AND delta >= 0),
            fence INTEGER NOT NULL CHECK (typeof(fence) = 'integer' AND fence >= 0),
            details TEXT NOT NULL,
            prev_hash TEXT NOT NULL,
            hash TEXT NOT NULL,
            PRIMARY KEY (dataset, seq)
        );
INSERT INTO "journal" VALUES('people',1,'2026-11-28T22:17:11.640+00:00','budget_created','',10000000000000,100000000000000,0,'{"actor":"","ledger":"54eac720ae80c2cd710579710df066614bf710c47b2338a2f3a3a0e9927e030a","meter":"basic"}','0000000000000000000000000000000000000000000000000000000000000000','1b0f651ef495554f85f355133a1131fc142203d88147bc8567160c52b72befc6');
INSERT INTO "journal" VALUES('unused',1,'2026-11-28T22:17:11.655+00:00','budget_created','',1000000000000,1000000000000,0,'{"actor":"","ledger":"54eac720ae80c2cd710579710df066614bf710c47b2338a2f3a3a0e9927e030a","meter":"basic"}','0000000000000000000000000000000000000000000000000000000000000000','74ecc15a48166828fbb13fb514f7c02cbfcf55b11159d1076ddf91657c25933d');
INSERT INTO "journal" VALUES('people',2,'2026-11-28T22:17:11.679+00:00','reserved','7acd423bf02149c732308c5c95cac0c2',1000000000000,1000000000000,1,'{"key":"published","max_attempts":3,"owner":{"host":"host","pid":4242,"token":""},"path":"/releases/people/r-published","policy_digest":"sha256:1","release_id":"r-published"}','1b0f651ef495554f85f355133a1131fc142203d88147bc8567160c52b72befc6','911362b614ad1e0826fe8b25c545eb28cde2bdbfc54820718667461cc17da13c');
INSERT INTO "journal" VALUES('people',3,'2026-11-28T22:17:11.703+00:00','started','7acd423bf02149c732308c5c95cac0c2',1000000000000,1000000000000,1,'{}','911362b614ad1e0826fe8b25c545eb28cde2bdbfc54820718667461cc17da13c','3ba686d08c75e977bdd7ab2ec8e512fda5c33e61fe94d4d2d8b3dd734b3612f4');
INSERT INTO "journal" VALUES('people',4,'2026-11-28T22:17:11.727+00:00','published','7acd423bf02149c732308c5c95cac0c2',1000000000000,1000000000000,1,'{"manifest_sha256":"0000000000000000000000000000000000000000000000000000000000000000","path":"/releases/people/r-published"}','3ba686d08c75e977bdd7ab2ec8e512fda5c33e61fe94d4d2d8b3dd734b3612f4','172db8f5e52520499064bb1ced9a4b9a7f3fedec0087da07fe2724c8b51bd628');
INSERT INTO "journal" VALUES('people',5,'2026-11-28T22:17:11.745+00:00','reserved','0a67eadf5894517e3677210b0fab6247',1000000000000,1000000000000,2,'{"key":"closed","max_attempts":3,"owner":{"host":"host","pid":4242,"token":""},"path":"/releases/people/r-closed","policy_digest":"sha256:1","release_id":"r-closed"}','172db8f5e52520499064bb1ced9a4b9a7f3fedec0087da07fe2724c8b51bd628','ca41b0c0a3ea4c4329942ae47457e0a53755945295941fc3ab2da42a95b6a855');
INSERT INTO "journal" VALUES('people',6,'2026-11-28T22:17:11.771+00:00','started','0a67eadf5894517e3677210b0fab6247',1000000000000,1000000000000,2,'{}','ca41b0c0a3ea4c4329942ae47457e0a53755945295941fc3ab2da42a95b6a855','8d185624dd20934cde16918dc6ef4d83b5f3061d451845266c7f52851541f0fc');
INSERT INTO "journal" VALUES('people',7,'2026-11-28T22:17:11.787+00:00','closed','0a67eadf5894517e3677210b0fab6247',1000000000000,1000000000000,3,'{}','8d185624dd20934cde16918dc6ef4d83b5f3061d451845266c7f52851541f0fc','78563e62d80556d3ae8b9d004040f4dde03978ecb398eac82a6c7d8859c12d00');
INSERT INTO "journal" VALUES('people',8,'2026-11-28T22:17:11.796+00:00','reserved','f665a6ea898b66f96008659d89a36d6d',1000000000000,1000000000000,4,'{"key":"released","max_attempts":3,"owner":{"host":"host","pid":4242,"token":""},"path":"/releases/people/r-released","policy_digest":"sha256:1","release_id":"r-released"}','78563e62d80556d3ae8b9d004040f4dde03978ecb398eac82a6c7d8859c12d00','54545c79a8da49d116860a26a38f80437cb7712f0609db76d6a8be6fc5c0961c');
INSERT INTO "journal" VALUES('people',9,'2026-11-28T22:17:11.823+00:00','released','f665a6ea898b66f96008659d89a36d6d',1000000000000,1000000000000,5,'{}','54545c79a8da49d116860a26a38f80437cb7712f0609db76d6a8be6fc5c0961c','399c4a236c9e735c1f8dff8ec3600a0f1e472584f0702f1f88f6ce6fb06ef8c2');
INSERT INTO "journal" VALUES('people',10,'2026-11-28T22:17:11.844+00:00','reserved','4aa252b82da986fab001ba8675ea5d56',1000000000000,1000000000000,6,'{"key":"retried","max_attempts":3,"owner":{"host":"host","pid":4242,"token":""},"path":"/releases/people/r-retried","policy_digest":"sha256:1","release_id":"r-retried"}','399c4a236c9e735c1f8dff8ec3600a0f1e472584f0702f1f88f6ce6fb06ef8c2','69fd564c00332faed6368008dd50a14c618c3b04b70bf4a3011d422a9f64f04a');
INSERT INTO "journal" VALUES('people',11,'2026-11-28T22:17:11.863+00:00','started','4aa252b82da986fab001ba8675ea5d56',1000000000000,1000000000000,6,'{}','69fd564c00332faed6368008dd50a14c618c3b04b70bf4a3011d422a9f64f04a','93406038a3f25cc104763e60a92282d0bd27a353016cc68b7e20d565d9da56b4');
INSERT INTO "journal" VALUES('people',12,'2026-11-28T22:17:11.879+00:00','attempt_failed','4aa252b82da986fab001ba8675ea5d56',1000000000000,1000000000000,6,'{"attempt":1,"reason":"pipeline"}','93406038a3f25cc104763e60a92282d0bd27a353016cc68b7e20d565d9da56b4','c1b90495ac7627a95d4e553ac00cce7e6650395b5cf610fefa53dfde92f5a07c');
INSERT INTO "journal" VALUES('people',13,'2026-11-28T22:17:11.895+00:00','retried','4aa252b82da986fab001ba8675ea5d56',1000000000000,1000000000000,7,'{"attempt":2,"owner":{"host":"host","pid":4242,"token":""}}','c1b90495ac7627a95d4e553ac00cce7e6650395b5cf610fefa53dfde92f5a07c','0fc09dceb38638dbe9fb469f458ac0797f2939943f2b8212ffc2b089ed4cf17b');
INSERT INTO "journal" VALUES('people',14,'2026-11-28T22:17:11.920+00:00','reserved','d2167c4ec90dfc1a0cbf9cfc5cafa465',1000000000000,1000000000000,8,'{"key":"started","max_attempts":3,"owner":{"host":"host","pid":4242,"token":""},"path":"/releases/people/r-started","policy_digest":"sha256:1","release_id":"r-started"}','0fc09dceb38638dbe9fb469f458ac0797f2939943f2b8212ffc2b089ed4cf17b','e4badd620e863688aa442986883395d50430f1fdf4bfbf5f09f3c46cab35c411');
INSERT INTO "journal" VALUES('people',15,'2026-11-28T22:17:11.943+00:00','started','d2167c4ec90dfc1a0cbf9cfc5cafa465',1000000000000,1000000000000,8,'{}','e4badd620e863688aa442986883395d50430f1fdf4bfbf5f09f3c46cab35c411','661d74b5e8b8b6668fa7fd62e4de1a1b1ab46ba13299538546c544d086597b53');
INSERT INTO "journal" VALUES('people',16,'2026-11-28T22:17:11.968+00:00','reserved','4dadfed4fa890632f99076aae40464ee',1000000000000,1000000000000,9,'{"key":"reserved","max_attempts":3,"owner":{"host":"host","pid":4242,"token":""},"path":"/releases/people/r-reserved","policy_digest":"sha256:1","release_id":"r-reserved"}','661d74b5e8b8b6668fa7fd62e4de1a1b1ab46ba13299538546c544d086597b53','643b76b563b27486ffb4ca90f0d9fc5356d13293b1dfaa9a9e3e7a5cbe69dd37');
CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value NOT NULL);
INSERT INTO "meta" VALUES('version',1);
INSERT INTO "meta" VALUES('secret',X'7A6C3C7D310D0EA13E6811ADF38FCDB7B2B590153C11A60F669AEA7EF6D52211');
CREATE INDEX charges_by_key ON charges (dataset, key);
CREATE UNIQUE INDEX charges_open ON charges (dataset, key) WHERE state IN ('RESERVED', 'STARTED');
CREATE INDEX journal_by_fence ON journal (fence);
CREATE TRIGGER journal_no_update BEFORE UPDATE ON journal
            BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER journal_no_delete BEFORE DELETE ON journal
            BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER journal_only_append BEFORE INSERT ON journal
            WHEN NEW.seq != (SELECT coalesce(max(seq), 0) + 1 FROM journal WHERE dataset = NEW.dataset)
            BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER charges_no_delete BEFORE DELETE ON charges
            BEGIN SELECT RAISE(ABORT, 'a charge is never deleted'); END;
CREATE TRIGGER budgets_no_delete BEFORE DELETE ON budgets
            BEGIN SELECT RAISE(ABORT, 'a budget is never deleted'); END;
COMMIT;
