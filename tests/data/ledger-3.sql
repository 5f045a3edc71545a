PRAGMA application_id = 1685081137;
PRAGMA user_version = 3;
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
INSERT INTO "budgets" VALUES('people','basic',20000000000000,10000000000000,4200000000000,600000000000,700000000000,100000000000,29,'620d9ff0a70c71917a0d54d4f1ba41dcc53ad5a4276b719870fbd99a89d97014','person','add_or_remove_one','["/data/people.csv","/data/people_2.csv","/data/gr\u00f6\u00dfe.csv"]');
INSERT INTO "budgets" VALUES('rows','basic',3000000000000,1000000000000,700000000000,100000000000,0,0,4,'715f6bf25132f3c1bd17f7a702c6e3bc6e38804e28b51a77f229ad2ec8f5451c','row','add_or_remove_one','["/data/people.csv"]');
CREATE TABLE charges (
            id TEXT PRIMARY KEY NOT NULL,
            dataset TEXT NOT NULL REFERENCES budgets (dataset),
            key TEXT NOT NULL,
            epsilon INTEGER NOT NULL CHECK (typeof(epsilon) = 'integer' AND epsilon > 0),
            delta INTEGER NOT NULL CHECK (typeof(delta) = 'integer' AND delta > 0),
            state TEXT NOT NULL
                CHECK (state IN ('RESERVED', 'STARTED', 'PUBLISHED', 'SPENT_UNPUBLISHED', 'REFUNDED')),
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
INSERT INTO "charges" VALUES('35fe6b9ab8de111c9b63cfa343f59eac','people','published',700000000000,100000000000,'PUBLISHED',1,1,3,'{"host":"old-host","pid":4242,"token":"123456"}','r-published','sha256:3333333333333333333333333333333333333333333333333333333333333333','/out/published','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',0);
INSERT INTO "charges" VALUES('ac515156f641f259ab033b3e0128664d','people','refunded',700000000000,100000000000,'REFUNDED',3,1,3,'{"host":"old-host","pid":4242,"token":"123456"}','r-refunded','sha256:3333333333333333333333333333333333333333333333333333333333333333','/out/refunded',NULL,0);
INSERT INTO "charges" VALUES('2faa6d5548c78539073335bbb52eda5e','people','closed',700000000000,100000000000,'SPENT_UNPUBLISHED',5,1,3,'{"host":"old-host","pid":4242,"token":"123456"}','r-closed','sha256:3333333333333333333333333333333333333333333333333333333333333333','/out/closed',NULL,0);
INSERT INTO "charges" VALUES('fbcae3bbfada2d4516d70b94a529d7e4','people','retried',700000000000,100000000000,'PUBLISHED',8,3,4,'{"host":"old-host","pid":4242,"token":"123456"}','r-retried','sha256:3333333333333333333333333333333333333333333333333333333333333333','/out/elsewhere/größe 💧','sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',0);
INSERT INTO "charges" VALUES('eb84c5a2c808460c0fcca30a634b9d19','people','published',700000000000,100000000000,'PUBLISHED',9,1,3,'{"host":"old-host","pid":4242,"token":"123456"}','r-published','sha256:3333333333333333333333333333333333333333333333333333333333333333','/out/published','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',0);
INSERT INTO "charges" VALUES('0e3ad096dd3619830b7f83bbc8f7bad7','people','moved',700000000000,100000000000,'STARTED',10,1,3,'{"host":"old-host","pid":4242,"token":"123456"}','r-moved','sha256:3333333333333333333333333333333333333333333333333333333333333333','/out/moved',NULL,0);
INSERT INTO "charges" VALUES('7ec9a4b94e2b7fe643f392eba3ed4ee5','people','started',700000000000,100000000000,'STARTED',11,1,3,'{"host":"old-host","pid":4242,"token":"123456"}','r-started','sha256:3333333333333333333333333333333333333333333333333333333333333333','/out/started',NULL,0);
INSERT INTO "charges" VALUES('97631ee9297f640177fba2d821f1c0de','people','held',700000000000,100000000000,'RESERVED',12,1,3,'{"host":"old-host","pid":4242,"token":"123456"}','r-held','sha256:3333333333333333333333333333333333333333333333333333333333333333',NULL,NULL,0);
INSERT INTO "charges" VALUES('d97f8eba4f600c9ffe63bc6df8157651','rows','r1',700000000000,100000000000,'STARTED',13,1,3,'{"host":"old-host","pid":4242,"token":"123456"}','r-r1','sha256:3333333333333333333333333333333333333333333333333333333333333333','/out/r1',NULL,0);
INSERT INTO "charges" VALUES('76fd83b2e801fde6620621ada44f463b','people','given-back-2',700000000000,100000000000,'REFUNDED',15,1,3,'{"host":"old-host","pid":4242,"token":"123456"}','r-given-back-2','sha256:3333333333333333333333333333333333333333333333333333333333333333','/out/given-back-2',NULL,0);
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
INSERT INTO "journal" VALUES('people',1,'2026-11-30T07:48:18.682+00:00','budget_created','',20000000000000,10000000000000,0,'{"actor":"","ledger":"0434cbd9d7c033d6798e3c1794c7a04ae8652744a4b9f8818a50c3fd1a23c44b","meter":"basic"}','0000000000000000000000000000000000000000000000000000000000000000','9da48ab646034df2a1e00424ad99f902702334f89417a3416aa9ac71399e1758');
INSERT INTO "journal" VALUES('rows',1,'2026-11-30T07:48:18.710+00:00','budget_created','',3000000000000,1000000000000,0,'{"actor":"steward","ledger":"0434cbd9d7c033d6798e3c1794c7a04ae8652744a4b9f8818a50c3fd1a23c44b","meter":"basic","neighbours":"add_or_remove_one","privacy_unit":"row"}','0000000000000000000000000000000000000000000000000000000000000000','202b07beb84c2a75136cb7fe6955922e1ddb09b60a29a9275ba9e74cd6aa0e29');
INSERT INTO "journal" VALUES('people',2,'2026-11-30T07:48:18.736+00:00','unit_bound','',0,0,0,'{"neighbours":"add_or_remove_one","privacy_unit":"person"}','9da48ab646034df2a1e00424ad99f902702334f89417a3416aa9ac71399e1758','f06a718b5cba3d621d7364c3d136647fd951dab90b68d5736440c390372916d4');
INSERT INTO "journal" VALUES('people',3,'2026-11-30T07:48:18.736+00:00','source_accepted','',0,0,0,'{"also_of":[],"asked":false,"sources":["/data/people.csv"]}','f06a718b5cba3d621d7364c3d136647fd951dab90b68d5736440c390372916d4','79541ad48c2d5f0755659b5a71980c5949c4a8b2aea3cdfa5ea02d6dd320b9b9');
INSERT INTO "journal" VALUES('people',4,'2026-11-30T07:48:18.736+00:00','reserved','35fe6b9ab8de111c9b63cfa343f59eac',700000000000,100000000000,1,'{"key":"published","max_attempts":3,"owner":{"host":"old-host","pid":4242,"token":"123456"},"path":"/out/published","policy_digest":"sha256:3333333333333333333333333333333333333333333333333333333333333333","release_id":"r-published"}','79541ad48c2d5f0755659b5a71980c5949c4a8b2aea3cdfa5ea02d6dd320b9b9','3b53d63e01dad615fe0aaa2544775e65dccb452267462256a7d1ab6561dc2fd8');
INSERT INTO "journal" VALUES('people',5,'2026-11-30T07:48:18.767+00:00','started','35fe6b9ab8de111c9b63cfa343f59eac',700000000000,100000000000,1,'{}','3b53d63e01dad615fe0aaa2544775e65dccb452267462256a7d1ab6561dc2fd8','a36673d461e648bd28f6730e3e4ebb3a6a6972a7e37253d989eb15e2547b8e95');
INSERT INTO "journal" VALUES('people',6,'2026-11-30T07:48:18.792+00:00','published','35fe6b9ab8de111c9b63cfa343f59eac',700000000000,100000000000,1,'{"manifest_sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","path":"/out/published"}','a36673d461e648bd28f6730e3e4ebb3a6a6972a7e37253d989eb15e2547b8e95','f615d28505e95f3927e51c829ec34d670f62ba6d391990ff5e5b412869a6f5d5');
INSERT INTO "journal" VALUES('people',7,'2026-11-30T07:48:18.819+00:00','reserved','ac515156f641f259ab033b3e0128664d',700000000000,100000000000,2,'{"key":"refunded","max_attempts":3,"owner":{"host":"old-host","pid":4242,"token":"123456"},"path":"/out/refunded","policy_digest":"sha256:3333333333333333333333333333333333333333333333333333333333333333","release_id":"r-refunded"}','f615d28505e95f3927e51c829ec34d670f62ba6d391990ff5e5b412869a6f5d5','330087e5f296a5c65f1c6b112ff27975c72f1ce3bc9aba4821fc25bafa94d5b4');
INSERT INTO "journal" VALUES('people',8,'2026-11-30T07:48:18.842+00:00','released','ac515156f641f259ab033b3e0128664d',700000000000,100000000000,3,'{}','330087e5f296a5c65f1c6b112ff27975c72f1ce3bc9aba4821fc25bafa94d5b4','1640cc5d261bafde14a4eaa1581e9e04766ed5830f7bb03f23dae23d657fcd22');
INSERT INTO "journal" VALUES('people',9,'2026-11-30T07:48:18.866+00:00','reserved','2faa6d5548c78539073335bbb52eda5e',700000000000,100000000000,4,'{"key":"closed","max_attempts":3,"owner":{"host":"old-host","pid":4242,"token":"123456"},"path":"/out/closed","policy_digest":"sha256:3333333333333333333333333333333333333333333333333333333333333333","release_id":"r-closed"}','1640cc5d261bafde14a4eaa1581e9e04766ed5830f7bb03f23dae23d657fcd22','23ca8140b3c4a7cd37e4a4a809bd358b4e0a08d399e58aea3b52f265c6472e33');
INSERT INTO "journal" VALUES('people',10,'2026-11-30T07:48:18.894+00:00','started','2faa6d5548c78539073335bbb52eda5e',700000000000,100000000000,4,'{}','23ca8140b3c4a7cd37e4a4a809bd358b4e0a08d399e58aea3b52f265c6472e33','499bbb0814132ff62354750a64bfdacea99af458353cf6b8f222d52e81885f0a');
INSERT INTO "journal" VALUES('people',11,'2026-11-30T07:48:18.926+00:00','closed','2faa6d5548c78539073335bbb52eda5e',700000000000,100000000000,5,'{}','499bbb0814132ff62354750a64bfdacea99af458353cf6b8f222d52e81885f0a','261561c930e00f7d5d552b0675dbd30c9276dad390de626507bdd17ce027c017');
INSERT INTO "journal" VALUES('people',12,'2026-11-30T07:48:18.954+00:00','reserved','fbcae3bbfada2d4516d70b94a529d7e4',700000000000,100000000000,6,'{"key":"retried","max_attempts":4,"owner":{"host":"old-host","pid":4242,"token":"123456"},"path":"/out/retried","policy_digest":"sha256:3333333333333333333333333333333333333333333333333333333333333333","release_id":"r-retried"}','261561c930e00f7d5d552b0675dbd30c9276dad390de626507bdd17ce027c017','791e55121a9ffb9c75e382513502871fed4464db629f4b2de52d9a75e98d4615');
INSERT INTO "journal" VALUES('people',13,'2026-11-30T07:48:18.978+00:00','started','fbcae3bbfada2d4516d70b94a529d7e4',700000000000,100000000000,6,'{}','791e55121a9ffb9c75e382513502871fed4464db629f4b2de52d9a75e98d4615','fab1aa4a80e1a5210d012469f2bb565742e7e090a097e4d8394573b9d4c7a73e');
INSERT INTO "journal" VALUES('people',14,'2026-11-30T07:48:18.998+00:00','attempt_failed','fbcae3bbfada2d4516d70b94a529d7e4',700000000000,100000000000,6,'{"attempt":1,"reason":"pipeline"}','fab1aa4a80e1a5210d012469f2bb565742e7e090a097e4d8394573b9d4c7a73e','6b2395edbb567e37fc25a63dfd45363fcfcbe9727c536f411cb6b93e56a39adf');
INSERT INTO "journal" VALUES('people',15,'2026-11-30T07:48:19.027+00:00','retried','fbcae3bbfada2d4516d70b94a529d7e4',700000000000,100000000000,7,'{"attempt":2,"owner":{"host":"old-host","pid":4242,"token":"123456"}}','6b2395edbb567e37fc25a63dfd45363fcfcbe9727c536f411cb6b93e56a39adf','f26032781757c9c5e4be74cb25af122a912f871784115e14ee907bd62aa6945b');
INSERT INTO "journal" VALUES('people',16,'2026-11-30T07:48:19.054+00:00','attempt_failed','fbcae3bbfada2d4516d70b94a529d7e4',700000000000,100000000000,7,'{"attempt":2,"reason":"coverage"}','f26032781757c9c5e4be74cb25af122a912f871784115e14ee907bd62aa6945b','954b464c3f61d1150d562e02eaaba84aa0b8dc9f9d2e3acd081e899555f84de9');
INSERT INTO "journal" VALUES('people',17,'2026-11-30T07:48:19.083+00:00','retried','fbcae3bbfada2d4516d70b94a529d7e4',700000000000,100000000000,8,'{"attempt":3,"owner":{"host":"old-host","pid":4242,"token":"123456"}}','954b464c3f61d1150d562e02eaaba84aa0b8dc9f9d2e3acd081e899555f84de9','6e5b2182628bb61b64da95890e9ddbbb3a2be3d8ca2ebd4b2c3a169596f6134f');
INSERT INTO "journal" VALUES('people',18,'2026-11-30T07:48:19.106+00:00','published','fbcae3bbfada2d4516d70b94a529d7e4',700000000000,100000000000,8,'{"manifest_sha256":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","path":"/out/elsewhere/gr\u00f6\u00dfe \ud83d\udca7"}','6e5b2182628bb61b64da95890e9ddbbb3a2be3d8ca2ebd4b2c3a169596f6134f','bc3d4a45e4309efa10849b80ba773ef8a9e76f848f3e9c90a4e623545fc0d76f');
INSERT INTO "journal" VALUES('people',19,'2026-11-30T07:48:19.131+00:00','reserved','eb84c5a2c808460c0fcca30a634b9d19',700000000000,100000000000,9,'{"key":"published","max_attempts":3,"owner":{"host":"old-host","pid":4242,"token":"123456"},"path":"/out/published","policy_digest":"sha256:3333333333333333333333333333333333333333333333333333333333333333","release_id":"r-published"}','bc3d4a45e4309efa10849b80ba773ef8a9e76f848f3e9c90a4e623545fc0d76f','e79432ba0e7161eba555c9166672d1206898c147de17dd334244c87ffb0e5967');
INSERT INTO "journal" VALUES('people',20,'2026-11-30T07:48:19.154+00:00','started','eb84c5a2c808460c0fcca30a634b9d19',700000000000,100000000000,9,'{}','e79432ba0e7161eba555c9166672d1206898c147de17dd334244c87ffb0e5967','d4585abe84e04a08dd3f6fa15f13a2e32bdc8e97d194eddfb358d5088629a0e9');
INSERT INTO "journal" VALUES('people',21,'2026-11-30T07:48:19.180+00:00','published','eb84c5a2c808460c0fcca30a634b9d19',700000000000,100000000000,9,'{"manifest_sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","path":"/out/published"}','d4585abe84e04a08dd3f6fa15f13a2e32bdc8e97d194eddfb358d5088629a0e9','b630804247042838e913f4d745620b7b7725227dfa2caebe423d4cbf41b3912a');
INSERT INTO "journal" VALUES('people',22,'2026-11-30T07:48:19.207+00:00','source_accepted','',0,0,0,'{"also_of":[],"asked":true,"sources":["/data/people_2.csv","/data/gr\u00f6\u00dfe.csv"]}','b630804247042838e913f4d745620b7b7725227dfa2caebe423d4cbf41b3912a','ba6e072f89ca024971f986765ff915acbfad6935a3c3fb25f83ff467d5f8a1bf');
INSERT INTO "journal" VALUES('people',23,'2026-11-30T07:48:19.207+00:00','reserved','0e3ad096dd3619830b7f83bbc8f7bad7',700000000000,100000000000,10,'{"key":"moved","max_attempts":3,"owner":{"host":"old-host","pid":4242,"token":"123456"},"path":"/out/moved","policy_digest":"sha256:3333333333333333333333333333333333333333333333333333333333333333","release_id":"r-moved"}','ba6e072f89ca024971f986765ff915acbfad6935a3c3fb25f83ff467d5f8a1bf','a23e5d8336b58e50223b4c8b5ecf54282e770c6b394a3b29076f0a097c3f41f1');
INSERT INTO "journal" VALUES('people',24,'2026-11-30T07:48:19.234+00:00','started','0e3ad096dd3619830b7f83bbc8f7bad7',700000000000,100000000000,10,'{}','a23e5d8336b58e50223b4c8b5ecf54282e770c6b394a3b29076f0a097c3f41f1','a7ef8475e1672ca54e60b2d7edb58c80101aaff7ba7e13a7be9c9fcfcb522b8b');
INSERT INTO "journal" VALUES('people',25,'2026-11-30T07:48:19.263+00:00','reserved','7ec9a4b94e2b7fe643f392eba3ed4ee5',700000000000,100000000000,11,'{"key":"started","max_attempts":3,"owner":{"host":"old-host","pid":4242,"token":"123456"},"path":"/out/started","policy_digest":"sha256:3333333333333333333333333333333333333333333333333333333333333333","release_id":"r-started"}','a7ef8475e1672ca54e60b2d7edb58c80101aaff7ba7e13a7be9c9fcfcb522b8b','1900d986f22cb3e2360913e74a4683e61a0dc18f7a74da47c47b6f483773dc95');
INSERT INTO "journal" VALUES('people',26,'2026-11-30T07:48:19.286+00:00','started','7ec9a4b94e2b7fe643f392eba3ed4ee5',700000000000,100000000000,11,'{}','1900d986f22cb3e2360913e74a4683e61a0dc18f7a74da47c47b6f483773dc95','43b23346c15c29ed8004ace7fc8e859646c1740b20ff66ab9e36e496ae66bd0d');
INSERT INTO "journal" VALUES('people',27,'2026-11-30T07:48:19.319+00:00','reserved','97631ee9297f640177fba2d821f1c0de',700000000000,100000000000,12,'{"key":"held","max_attempts":3,"owner":{"host":"old-host","pid":4242,"token":"123456"},"path":null,"policy_digest":"sha256:3333333333333333333333333333333333333333333333333333333333333333","release_id":"r-held"}','43b23346c15c29ed8004ace7fc8e859646c1740b20ff66ab9e36e496ae66bd0d','8dc17e4ba1d5da41bc95e433ce1661ebdb4f19837a2b6238e571e2de6cf159f5');
INSERT INTO "journal" VALUES('rows',2,'2026-11-30T07:48:19.339+00:00','source_accepted','',0,0,0,'{"also_of":["people"],"asked":true,"sources":["/data/people.csv"]}','202b07beb84c2a75136cb7fe6955922e1ddb09b60a29a9275ba9e74cd6aa0e29','815babd1367256aa1732a9dae3259cf7c74ab5867d2289e149b59f15ba014ca7');
INSERT INTO "journal" VALUES('rows',3,'2026-11-30T07:48:19.343+00:00','reserved','d97f8eba4f600c9ffe63bc6df8157651',700000000000,100000000000,13,'{"key":"r1","max_attempts":3,"owner":{"host":"old-host","pid":4242,"token":"123456"},"path":"/out/r1","policy_digest":"sha256:3333333333333333333333333333333333333333333333333333333333333333","release_id":"r-r1"}','815babd1367256aa1732a9dae3259cf7c74ab5867d2289e149b59f15ba014ca7','4c3f463166c0f3f4ccd4f2c12b6c1742f470b31458320e14113f4738cc6fb8ee');
INSERT INTO "journal" VALUES('rows',4,'2026-11-30T07:48:19.374+00:00','started','d97f8eba4f600c9ffe63bc6df8157651',700000000000,100000000000,13,'{}','4c3f463166c0f3f4ccd4f2c12b6c1742f470b31458320e14113f4738cc6fb8ee','715f6bf25132f3c1bd17f7a702c6e3bc6e38804e28b51a77f229ad2ec8f5451c');
INSERT INTO "journal" VALUES('people',28,'2026-11-30T07:48:19.399+00:00','reserved','76fd83b2e801fde6620621ada44f463b',700000000000,100000000000,14,'{"key":"given-back-2","max_attempts":3,"owner":{"host":"old-host","pid":4242,"token":"123456"},"path":"/out/given-back-2","policy_digest":"sha256:3333333333333333333333333333333333333333333333333333333333333333","release_id":"r-given-back-2"}','8dc17e4ba1d5da41bc95e433ce1661ebdb4f19837a2b6238e571e2de6cf159f5','ce840228dd3b0dbb635c4518a0db64231670648b739effb199c8f25255e7bf92');
INSERT INTO "journal" VALUES('people',29,'2026-11-30T07:48:19.431+00:00','released','76fd83b2e801fde6620621ada44f463b',700000000000,100000000000,15,'{}','ce840228dd3b0dbb635c4518a0db64231670648b739effb199c8f25255e7bf92','620d9ff0a70c71917a0d54d4f1ba41dcc53ad5a4276b719870fbd99a89d97014');
CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value NOT NULL);
INSERT INTO "meta" VALUES('version',3);
INSERT INTO "meta" VALUES('secret',X'E42ECF6EBCE556A61568C0451EB1728F014A5DA72E5CD5C3E8162FEE07B0EFC1');
CREATE INDEX journal_by_fence ON journal (fence);
CREATE TRIGGER journal_no_update BEFORE UPDATE ON journal
            BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER journal_no_delete BEFORE DELETE ON journal
            BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER journal_only_append BEFORE INSERT ON journal
            WHEN NEW.seq != (SELECT coalesce(max(seq), 0) + 1 FROM journal WHERE dataset = NEW.dataset)
            BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER budgets_no_delete BEFORE DELETE ON budgets
            BEGIN SELECT RAISE(ABORT, 'a budget is never deleted'); END;
CREATE INDEX charges_by_key ON charges (dataset, key);
CREATE UNIQUE INDEX charges_open ON charges (dataset, key) WHERE state IN ('RESERVED', 'STARTED');
CREATE TRIGGER charges_no_delete BEFORE DELETE ON charges
            BEGIN SELECT RAISE(ABORT, 'a charge is never deleted'); END;
COMMIT;
