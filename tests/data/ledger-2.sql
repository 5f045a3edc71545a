PRAGMA application_id = 1685081137;
PRAGMA user_version = 2;
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
            head_hash TEXT NOT NULL, privacy_unit TEXT, neighbours TEXT CHECK ((neighbours IS NULL) = (privacy_unit IS NULL)), sources TEXT NOT NULL DEFAULT '[]',
            CHECK (spent_epsilon <= cap_epsilon - held_epsilon),
            CHECK (spent_delta <= cap_delta - held_delta)
        );
INSERT INTO "budgets" VALUES('people','basic',20000000000000,100000000000000,500000000000,50000000000,100000000000,10000000000,25,'db6972e8745d148d003115ad269257766977453f962590a956781a764049f3d8','person','add_or_remove_one','["/data/people.csv","/data/moved/\u00e4?.csv"]');
INSERT INTO "budgets" VALUES('others','basic',2500000000000,300000000000,0,0,100000000000,10000000000,3,'80ea3588b2ac9d17625e9f8b45ab6eefe488e2c521bfb4c0e1a19df8015443eb','person','add_or_remove_one','["/data/people.csv"]');
INSERT INTO "budgets" VALUES('unused','basic',1000000000000,1000000000000,0,0,0,0,1,'daa70b905669c002c98b82dae65f7979afb16c644db299e8cd767d0917868d60',NULL,NULL,'[]');
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
INSERT INTO "charges" VALUES('3b8ebc8861a99023ff4e7f1cfefeb7ef','people','published',100000000000,10000000000,'PUBLISHED',1,1,3,'{"host":"host","pid":4242,"token":"boot/4026531836/77"}','r-published','sha256:1','/releases/people/r-published','sha256:0000000000000000000000000000000000000000000000000000000000000000',0);
INSERT INTO "charges" VALUES('c7cb650e7167d0e05122bac177bcfd94','people','closed',100000000000,10000000000,'SPENT_UNPUBLISHED',3,1,3,'{"host":"host","pid":4242,"token":"boot/4026531836/77"}','r-closed','sha256:1','/releases/people/r-closed',NULL,0);
INSERT INTO "charges" VALUES('a6eb54784b0fdf929b03550fd26128be','people','given-back',100000000000,10000000000,'RELEASED',5,1,3,'{"host":"host","pid":4242,"token":"boot/4026531836/77"}','r-given-back','sha256:1','/releases/people/r-given-back',NULL,0);
INSERT INTO "charges" VALUES('70b8538d09e57c281098956c16b7238a','people','retried',100000000000,10000000000,'STARTED',7,2,4,'{"host":"h\u00f6st","pid":4243,"token":""}','r-retried','sha256:1','/releases/people/r-retried',NULL,1);
INSERT INTO "charges" VALUES('01bbe99b2429b75665f2d4f3cdd7611b','people','started',100000000000,10000000000,'STARTED',8,1,3,'{"host":"host","pid":4242,"token":"boot/4026531836/77"}','r-started','sha256:1','/releases/people/r-started',NULL,0);
INSERT INTO "charges" VALUES('8bc7825eb796e41f741b429d7d6bca9c','people','moved',100000000000,10000000000,'RESERVED',9,1,3,'{"host":"host","pid":4242,"token":"boot/4026531836/77"}','r-moved','sha256:1','/releases/people/r-moved',NULL,0);
INSERT INTO "charges" VALUES('685c672ab51c6d45f27a8440b9ab77a7','others','both',100000000000,10000000000,'RESERVED',10,1,3,'{"host":"host","pid":4242,"token":"boot/4026531836/77"}','r-both','sha256:1',NULL,NULL,0);
INSERT INTO "charges" VALUES('8f7c93f842b7c12a91a6980a71dac3bc','people','published',100000000000,10000000000,'PUBLISHED',11,1,3,'{"host":"host","pid":4242,"token":"boot/4026531836/77"}','r-published','sha256:1','/elsewhere','1111111111111111111111111111111111111111111111111111111111111111',0);
INSERT INTO "charges" VALUES('03edab7b121536782fbd26d126635b9f','people','given-back-2',100000000000,10000000000,'RELEASED',13,1,3,'{"host":"host","pid":4242,"token":"boot/4026531836/77"}','r-given-back-2','sha256:1','/releases/people/r-given-back-2',NULL,0);
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
INSERT INTO "journal" VALUES('people',1,'2026-11-29T14:21:29.143+00:00','budget_created','',20000000000000,100000000000000,0,'{"actor":"privacy officer","ledger":"df56275883987e30c1bd8b9089a8de5d6f4d9588d11c6ae1a47620f9456cc0ed","meter":"basic"}','0000000000000000000000000000000000000000000000000000000000000000','9cef0ef8c82e6b1a81852b3ff7531859b5bbd554005c501cc7d5d9d4030a0d73');
INSERT INTO "journal" VALUES('others',1,'2026-11-29T14:21:29.146+00:00','budget_created','',2500000000000,300000000000,0,'{"actor":"","ledger":"df56275883987e30c1bd8b9089a8de5d6f4d9588d11c6ae1a47620f9456cc0ed","meter":"basic","neighbours":"add_or_remove_one","privacy_unit":"person"}','0000000000000000000000000000000000000000000000000000000000000000','0d84d4fb22bf4852b269daf7a98116c4c61dd1fb866621b76b8679300cac651a');
INSERT INTO "journal" VALUES('unused',1,'2026-11-29T14:21:29.151+00:00','budget_created','',1000000000000,1000000000000,0,'{"actor":"","ledger":"df56275883987e30c1bd8b9089a8de5d6f4d9588d11c6ae1a47620f9456cc0ed","meter":"basic"}','0000000000000000000000000000000000000000000000000000000000000000','daa70b905669c002c98b82dae65f7979afb16c644db299e8cd767d0917868d60');
INSERT INTO "journal" VALUES('people',2,'2026-11-29T14:21:29.156+00:00','unit_bound','',0,0,0,'{"neighbours":"add_or_remove_one","privacy_unit":"person"}','9cef0ef8c82e6b1a81852b3ff7531859b5bbd554005c501cc7d5d9d4030a0d73','caee765614f16081359a3268cb4132095e0b885ca6ea631ece2da173a7a7827c');
INSERT INTO "journal" VALUES('people',3,'2026-11-29T14:21:29.156+00:00','source_accepted','',0,0,0,'{"also_of":[],"asked":false,"sources":["/data/people.csv"]}','caee765614f16081359a3268cb4132095e0b885ca6ea631ece2da173a7a7827c','24f33974a24267cac57d7b6d695d388e632cf515e55df31dccbb30f370d85dc3');
INSERT INTO "journal" VALUES('people',4,'2026-11-29T14:21:29.156+00:00','reserved','3b8ebc8861a99023ff4e7f1cfefeb7ef',100000000000,10000000000,1,'{"key":"published","max_attempts":3,"owner":{"host":"host","pid":4242,"token":"boot/4026531836/77"},"path":"/releases/people/r-published","policy_digest":"sha256:1","release_id":"r-published"}','24f33974a24267cac57d7b6d695d388e632cf515e55df31dccbb30f370d85dc3','ae6dd282ea07870625036d3d2239887401bd50b69f00730beddd115d6a667b4a');
INSERT INTO "journal" VALUES('people',5,'2026-11-29T14:21:29.159+00:00','started','3b8ebc8861a99023ff4e7f1cfefeb7ef',100000000000,10000000000,1,'{}','ae6dd282ea07870625036d3d2239887401bd50b69f00730beddd115d6a667b4a','e96c30834d72957b80cf18797127caadf728c731e4a6b3c5dc7d70ef04b00168');
INSERT INTO "journal" VALUES('people',6,'2026-11-29T14:21:29.161+00:00','published','3b8ebc8861a99023ff4e7f1cfefeb7ef',100000000000,10000000000,1,'{"manifest_sha256":"sha256:0000000000000000000000000000000000000000000000000000000000000000","path":"/releases/people/r-published"}','e96c30834d72957b80cf18797127caadf728c731e4a6b3c5dc7d70ef04b00168','6ce54cde55a527c37c9be199da852406dd2d2a257d0ecec6fbcfe0655ad8d2aa');
INSERT INTO "journal" VALUES('people',7,'2026-11-29T14:21:29.164+00:00','reserved','c7cb650e7167d0e05122bac177bcfd94',100000000000,10000000000,2,'{"key":"closed","max_attempts":3,"owner":{"host":"host","pid":4242,"token":"boot/4026531836/77"},"path":"/releases/people/r-closed","policy_digest":"sha256:1","release_id":"r-closed"}','6ce54cde55a527c37c9be199da852406dd2d2a257d0ecec6fbcfe0655ad8d2aa','0707dd1872f1e84e0a1ee1c18b9f58da3775ddcd0203e8a552daefefce7c0520');
INSERT INTO "journal" VALUES('people',8,'2026-11-29T14:21:29.168+00:00','started','c7cb650e7167d0e05122bac177bcfd94',100000000000,10000000000,2,'{}','0707dd1872f1e84e0a1ee1c18b9f58da3775ddcd0203e8a552daefefce7c0520','44ae6bbc7a16be3033bb4331e2f7d1d7637bd1df6e71d31740f4e059af02de18');
INSERT INTO "journal" VALUES('people',9,'2026-11-29T14:21:29.170+00:00','closed','c7cb650e7167d0e05122bac177bcfd94',100000000000,10000000000,3,'{}','44ae6bbc7a16be3033bb4331e2f7d1d7637bd1df6e71d31740f4e059af02de18','3915559fde7f2edb936d6bccb168a9ab75f0b33e6694157b4242683748ed0c35');
INSERT INTO "journal" VALUES('people',10,'2026-11-29T14:21:29.174+00:00','reserved','a6eb54784b0fdf929b03550fd26128be',100000000000,10000000000,4,'{"key":"given-back","max_attempts":3,"owner":{"host":"host","pid":4242,"token":"boot/4026531836/77"},"path":"/releases/people/r-given-back","policy_digest":"sha256:1","release_id":"r-given-back"}','3915559fde7f2edb936d6bccb168a9ab75f0b33e6694157b4242683748ed0c35','87d6a50fcc175019680e17e0e5288f700cf4dc4923f824a7188fb310d58c42af');
INSERT INTO "journal" VALUES('people',11,'2026-11-29T14:21:29.177+00:00','released','a6eb54784b0fdf929b03550fd26128be',100000000000,10000000000,5,'{}','87d6a50fcc175019680e17e0e5288f700cf4dc4923f824a7188fb310d58c42af','6794574005d8a596e4637a0efe88775005c50be89c6d8d8d7d6fbff1555223f6');
INSERT INTO "journal" VALUES('people',12,'2026-11-29T14:21:29.181+00:00','reserved','70b8538d09e57c281098956c16b7238a',100000000000,10000000000,6,'{"key":"retried","max_attempts":4,"owner":{"host":"host","pid":4242,"token":"boot/4026531836/77"},"path":"/releases/people/r-retried","policy_digest":"sha256:1","release_id":"r-retried"}','6794574005d8a596e4637a0efe88775005c50be89c6d8d8d7d6fbff1555223f6','bb6e4046db6298d2e39d7320a01c0e3ff239a76dee0ace0bc3352aa810a9984f');
INSERT INTO "journal" VALUES('people',13,'2026-11-29T14:21:29.184+00:00','started','70b8538d09e57c281098956c16b7238a',100000000000,10000000000,6,'{}','bb6e4046db6298d2e39d7320a01c0e3ff239a76dee0ace0bc3352aa810a9984f','3a75fd0535c2788869a2f0669e4784f3d7be1b9a3863d00c2bbd04b69bfb5b37');
INSERT INTO "journal" VALUES('people',14,'2026-11-29T14:21:29.187+00:00','attempt_failed','70b8538d09e57c281098956c16b7238a',100000000000,10000000000,6,'{"attempt":1,"reason":"pipeline"}','3a75fd0535c2788869a2f0669e4784f3d7be1b9a3863d00c2bbd04b69bfb5b37','cce2f6396a16c284748659766b93486e4bad27f2e1e9ff86ede08a4b752a606c');
INSERT INTO "journal" VALUES('people',15,'2026-11-29T14:21:29.191+00:00','retried','70b8538d09e57c281098956c16b7238a',100000000000,10000000000,7,'{"attempt":2,"owner":{"host":"h\u00f6st","pid":4243,"token":""}}','cce2f6396a16c284748659766b93486e4bad27f2e1e9ff86ede08a4b752a606c','f5b0858de34ed47381e45eb848d8fed99056ca839e75de15770b985a859d35f1');
INSERT INTO "journal" VALUES('people',16,'2026-11-29T14:21:29.194+00:00','attempt_failed','70b8538d09e57c281098956c16b7238a',100000000000,10000000000,7,'{"attempt":2,"reason":"data_rule"}','f5b0858de34ed47381e45eb848d8fed99056ca839e75de15770b985a859d35f1','44f8a7b09732090d7c159df75aa15cbc8cfb67017265c709bcaf4ff39b8b4e81');
INSERT INTO "journal" VALUES('people',17,'2026-11-29T14:21:29.198+00:00','reserved','01bbe99b2429b75665f2d4f3cdd7611b',100000000000,10000000000,8,'{"key":"started","max_attempts":3,"owner":{"host":"host","pid":4242,"token":"boot/4026531836/77"},"path":"/releases/people/r-started","policy_digest":"sha256:1","release_id":"r-started"}','44f8a7b09732090d7c159df75aa15cbc8cfb67017265c709bcaf4ff39b8b4e81','ff315d287bd1516107a6cf0396c51a6ee1230f43a24e07fd6c72a23c9bab25ed');
INSERT INTO "journal" VALUES('people',18,'2026-11-29T14:21:29.201+00:00','started','01bbe99b2429b75665f2d4f3cdd7611b',100000000000,10000000000,8,'{}','ff315d287bd1516107a6cf0396c51a6ee1230f43a24e07fd6c72a23c9bab25ed','0c5939475588e0872281b55ec8b7fc6b72e5926ba0bd369d258bb02dc48bf371');
INSERT INTO "journal" VALUES('people',19,'2026-11-29T14:21:29.205+00:00','source_accepted','',0,0,0,'{"also_of":[],"asked":true,"sources":["/data/moved/\u00e4?.csv"]}','0c5939475588e0872281b55ec8b7fc6b72e5926ba0bd369d258bb02dc48bf371','936ab651c7186ca22a31ed714a5d8561ec5471aeec686f2d5a054d5bd338ddc1');
INSERT INTO "journal" VALUES('people',20,'2026-11-29T14:21:29.206+00:00','reserved','8bc7825eb796e41f741b429d7d6bca9c',100000000000,10000000000,9,'{"key":"moved","max_attempts":3,"owner":{"host":"host","pid":4242,"token":"boot/4026531836/77"},"path":"/releases/people/r-moved","policy_digest":"sha256:1","release_id":"r-moved"}','936ab651c7186ca22a31ed714a5d8561ec5471aeec686f2d5a054d5bd338ddc1','36532cda3faf57c9bbcb15a0ab90c21a74fbcd4d7247949de468b28af299b8dd');
INSERT INTO "journal" VALUES('others',2,'2026-11-29T14:21:29.209+00:00','source_accepted','',0,0,0,'{"also_of":["people"],"asked":true,"sources":["/data/people.csv"]}','0d84d4fb22bf4852b269daf7a98116c4c61dd1fb866621b76b8679300cac651a','0b19a80187fcdfad6bd8bd7f1ffe84264c0ea6b42f3d070515ae18d939cc7aa3');
INSERT INTO "journal" VALUES('others',3,'2026-11-29T14:21:29.210+00:00','reserved','685c672ab51c6d45f27a8440b9ab77a7',100000000000,10000000000,10,'{"key":"both","max_attempts":3,"owner":{"host":"host","pid":4242,"token":"boot/4026531836/77"},"path":null,"policy_digest":"sha256:1","release_id":"r-both"}','0b19a80187fcdfad6bd8bd7f1ffe84264c0ea6b42f3d070515ae18d939cc7aa3','80ea3588b2ac9d17625e9f8b45ab6eefe488e2c521bfb4c0e1a19df8015443eb');
INSERT INTO "journal" VALUES('people',21,'2026-11-29T14:21:29.214+00:00','reserved','8f7c93f842b7c12a91a6980a71dac3bc',100000000000,10000000000,11,'{"key":"published","max_attempts":3,"owner":{"host":"host","pid":4242,"token":"boot/4026531836/77"},"path":"/releases/people/r-published","policy_digest":"sha256:1","release_id":"r-published"}','36532cda3faf57c9bbcb15a0ab90c21a74fbcd4d7247949de468b28af299b8dd','e5d1fbddf1df7f201ad23a9e307596246fd0d6eee82c6bf6fd82d31f10c691ee');
INSERT INTO "journal" VALUES('people',22,'2026-11-29T14:21:29.217+00:00','started','8f7c93f842b7c12a91a6980a71dac3bc',100000000000,10000000000,11,'{}','e5d1fbddf1df7f201ad23a9e307596246fd0d6eee82c6bf6fd82d31f10c691ee','d8d559ff2d4d4cf4fd39ff0b87abc80f981a97aff53a4cc7d2c917267d2cb5f5');
INSERT INTO "journal" VALUES('people',23,'2026-11-29T14:21:29.224+00:00','published','8f7c93f842b7c12a91a6980a71dac3bc',100000000000,10000000000,11,'{"manifest_sha256":"1111111111111111111111111111111111111111111111111111111111111111","path":"/elsewhere"}','d8d559ff2d4d4cf4fd39ff0b87abc80f981a97aff53a4cc7d2c917267d2cb5f5','8769f916a4913cccbe0b780054cdb08cbf3aeaf14b47789d382b2c33c156ef6e');
INSERT INTO "journal" VALUES('people',24,'2026-11-29T14:21:29.227+00:00','reserved','03edab7b121536782fbd26d126635b9f',100000000000,10000000000,12,'{"key":"given-back-2","max_attempts":3,"owner":{"host":"host","pid":4242,"token":"boot/4026531836/77"},"path":"/releases/people/r-given-back-2","policy_digest":"sha256:1","release_id":"r-given-back-2"}','8769f916a4913cccbe0b780054cdb08cbf3aeaf14b47789d382b2c33c156ef6e','5fe31b6481e728c48fb5ee16c5a044deb6d67428b9e16c701d127aff4ba316dc');
INSERT INTO "journal" VALUES('people',25,'2026-11-29T14:21:29.231+00:00','released','03edab7b121536782fbd26d126635b9f',100000000000,10000000000,13,'{}','5fe31b6481e728c48fb5ee16c5a044deb6d67428b9e16c701d127aff4ba316dc','db6972e8745d148d003115ad269257766977453f962590a956781a764049f3d8');
CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value NOT NULL);
INSERT INTO "meta" VALUES('version',2);
INSERT INTO "meta" VALUES('secret',X'F6ACEE5C10AB32CB610E234D204C0044534B5A05CC7C350A993D2B364F97054B');
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
