//! Every implementation of the two storage traits, by the same suites, and what only one of them promises.
#![expect(clippy::disallowed_methods, reason = "tests are told by the environment what to run against")]
#![cfg(all(feature = "conformance", feature = "embedded"))]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use storage::faults::{Faults, FaultyObject, FaultyTable};
use storage::kv::embedded::EmbeddedTable;
use storage::kv::memory::MemoryTable;
use storage::kv::{Condition, Key, KeyValue, NewItem, Outcome, SortRange, Write, range_all};
use storage::metered::{MeteredKeyValue, MeteredObject};
use storage::object::local::LocalObjects;
use storage::object::memory::MemoryObjects;
use storage::object::{Object, PutOutcome};
use storage::{Calls, Error, conformance};

fn temp_folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn open_table(folder: &Path) -> Arc<EmbeddedTable> {
    Arc::new(EmbeddedTable::open(folder.join("data/table.redb")).expect("open"))
}

fn open_objects(folder: &Path) -> Arc<LocalObjects> {
    Arc::new(LocalObjects::open(folder.join("objects")).expect("open"))
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_objects_conform() {
    conformance::object(Arc::new(MemoryObjects::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_table_conforms() {
    conformance::key_value(Arc::new(MemoryTable::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_objects_conform() {
    let folder = temp_folder();
    let objects = open_objects(folder.path());
    conformance::object(Arc::clone(&objects) as _).await;
    // Again, with all folders there but forgotten.
    conformance::object(open_objects(folder.path())).await;
    let leftovers = std::fs::read_dir(folder.path().join("objects/.tmp")).expect("read_dir").count();
    assert_eq!(leftovers, 0);
}

#[tokio::test(flavor = "current_thread")]
async fn local_objects_conform_on_one_thread() {
    let folder = temp_folder();
    conformance::object(open_objects(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_table_conforms() {
    let folder = temp_folder();
    conformance::key_value(open_table(folder.path())).await;
}

#[tokio::test(flavor = "current_thread")]
async fn embedded_table_conforms_on_one_thread() {
    let folder = temp_folder();
    conformance::key_value(open_table(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decorated_stores_conform() {
    let calls = Arc::new(Calls::default());
    let faults = Faults::new();
    let objects = FaultyObject::new(Arc::new(MemoryObjects::new()), faults.clone());
    conformance::object(Arc::new(MeteredObject::new(Arc::new(objects), Arc::clone(&calls)))).await;
    let table = FaultyTable::new(Arc::new(MemoryTable::new()), faults.clone());
    conformance::key_value(Arc::new(MeteredKeyValue::new(Arc::new(table), Arc::clone(&calls)))).await;
    let usage = calls.usage();
    assert!(usage.object_puts > 100 && usage.table_writes > 100, "{usage:?}");
    assert!(faults.calls().len() > 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_objects_keep_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = storage::cached::Cache::in_memory("memory", 1 << 20).and_folder(folder.path(), 1 << 20);
    let store = storage::Store {
        objects: Arc::new(MemoryObjects::new()),
        table: Arc::new(MemoryTable::new()),
        layout: storage::index::TableLayout { shards: 1 },
        recent: storage::read::RecentTraces::default(),
    };
    conformance::object(store.cached(&Arc::new(cache.expect("a folder"))).objects).await;
}

#[tokio::test]
async fn embedded_table_keeps_acknowledged_rows_over_a_reopening() {
    let folder = temp_folder();
    let mut versions = Vec::new();
    for round in 0..3_u8 {
        let table = open_table(folder.path());
        for i in 0..50_u8 {
            let key = Key::new("partition", format!("{round}-{i:02}"));
            let outcome =
                table.put(key, NewItem::lasting(vec![round, i]), Condition::Absent).await.expect("put");
            assert_eq!(outcome, Outcome::Written);
        }
        let items = range_all(&*table, "partition", SortRange::ALL).await.expect("range");
        assert_eq!(items.len(), 50 * (usize::from(round) + 1));
        let of_this_round = items.iter().filter(|(_, item)| item.value[0] == round);
        versions.extend(of_this_round.map(|(_, item)| item.version));
    }
    let n_versions = versions.len();
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), n_versions, "no version is given twice, not even by two openings");
}

#[tokio::test]
async fn embedded_table_finishes_queued_writes_when_dropped() {
    let folder = temp_folder();
    let table = open_table(folder.path());
    // Polled once, so that they are queued, then given up by their callers.
    let mut puts: Vec<_> = (0..20)
        .map(|i| table.put(Key::new("partition", format!("{i}")), NewItem::lasting("x"), Condition::Absent))
        .collect();
    for put in &mut puts {
        assert!(futures::poll!(put).is_pending());
    }
    drop(puts);
    drop(table);
    let table = open_table(folder.path());
    assert_eq!(range_all(&*table, "partition", SortRange::ALL).await.expect("range").len(), 20);
}

#[tokio::test]
async fn embedded_table_is_open_only_once() {
    let folder = temp_folder();
    let table = open_table(folder.path());
    let second = EmbeddedTable::open(folder.path().join("data/table.redb"));
    let Err(Error::InUse { folder: named }) = second else { panic!("opened twice, or another error") };
    assert_eq!(named, folder.path().join("data").display().to_string());
    drop(table);
    open_table(folder.path());
}

#[tokio::test]
async fn embedded_table_refuses_a_file_of_something_else() {
    let folder = temp_folder();
    let path = folder.path().join("table.redb");
    std::fs::write(&path, "this is no table, but it is long enough to be taken for one at first sight")
        .expect("write");
    assert!(matches!(EmbeddedTable::open(&path), Err(Error::Corrupt { .. })));
    let below_a_file = EmbeddedTable::open(path.join("table.redb"));
    assert!(matches!(below_a_file, Err(Error::Refused { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writes_share_commits() {
    let folder = temp_folder();
    let table = open_table(folder.path());
    let put = |i| {
        let table = Arc::clone(&table);
        tokio::spawn(async move {
            table
                .put(Key::new("partition", format!("{i:02}")), NewItem::lasting("x"), Condition::Absent)
                .await
        })
    };
    let puts: Vec<_> = (0..64).map(put).collect();
    for put in puts {
        assert_eq!(put.await.expect("no panic").expect("put"), Outcome::Written);
    }
    assert_eq!(range_all(&*table, "partition", SortRange::ALL).await.expect("range").len(), 64);
    let n_commits = table.commits();
    assert!((1..64).contains(&n_commits), "64 writes in {n_commits} commits");
}

#[tokio::test]
async fn write_that_changes_nothing_commits_nothing() {
    let folder = temp_folder();
    let table = open_table(folder.path());
    let key = Key::new("partition", "a");
    table.delete(&key).await.expect("delete");
    let put = table.put(key.clone(), NewItem::lasting("x"), Condition::Version(7)).await.expect("put");
    assert_eq!(put, Outcome::ConditionFailed);
    let check = table.transact(vec![Write::Check(key.clone(), Condition::Absent)]).await.expect("transact");
    assert_eq!(check, Outcome::Written);
    assert_eq!(table.commits(), 0);
}

#[tokio::test]
async fn sweep_removes_expired_items_only() {
    let folder = temp_folder();
    let table = open_table(folder.path());
    for i in 0..30_u64 {
        // 0..9 expire at 100..109, 10..19 at 1000..1009, 20..29 never.
        let expires_at_s = [Some(100 + i), Some(990 + i), None][(i / 10) as usize];
        let item = NewItem { value: Bytes::from_static(b"x"), expires_at_s };
        table.put(Key::new("partition", format!("{i:02}")), item, Condition::Absent).await.expect("put");
    }
    assert_eq!(table.sweep(100, 1_000).await.expect("sweep"), 0);
    assert_eq!(table.sweep(101, 1_000).await.expect("sweep"), 1);
    // Four looks at ten items each: 01..10, 11..20, 21..29, and from the start again.
    let mut removed = Vec::new();
    for _ in 0..4 {
        removed.push(table.sweep(1_005, 10).await.expect("sweep"));
    }
    assert_eq!(removed, [10, 4, 0, 0]);
    let left = range_all(&*table, "partition", SortRange::ALL).await.expect("range");
    let expected: Vec<String> = (15..30).map(|i| format!("{i:02}")).collect();
    assert_eq!(left.into_iter().map(|(sort, _)| sort).collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn race_between_two_openings_of_a_folder_has_one_winner() {
    let folder = temp_folder();
    let stores = [open_objects(folder.path()), open_objects(folder.path())];
    for round in 0..20 {
        let put = |i: usize| {
            let store = Arc::clone(&stores[i % 2]);
            let body = Bytes::from(vec![i as u8; 10_000]);
            tokio::spawn(async move { store.put_if_absent(&format!("a/{round}/object"), body).await })
        };
        let puts: Vec<_> = (0..8).map(put).collect();
        let mut winners = Vec::new();
        for (i, put) in puts.into_iter().enumerate() {
            if put.await.expect("no panic").expect("put") == PutOutcome::Created {
                winners.push(i);
            }
        }
        assert_eq!(winners.len(), 1, "winners of the race: {winners:?}");
        let stored = stores[1].get(&format!("a/{round}/object")).await.expect("get").expect("an object");
        assert_eq!(stored, vec![winners[0] as u8; 10_000]);
    }
}

#[tokio::test]
async fn opening_removes_what_a_crashed_process_left() {
    let folder = temp_folder();
    let objects = open_objects(folder.path());
    objects.put_if_absent("a/object", Bytes::from_static(b"x")).await.expect("put");
    let leftover = folder.path().join("objects/.tmp/0123456789abcdef-0");
    std::fs::write(&leftover, "half an obj").expect("write");
    let objects = open_objects(folder.path());
    assert!(!leftover.exists());
    assert_eq!(objects.list("", None, 10).await.expect("list").len(), 1);
}

#[tokio::test]
async fn put_finds_its_way_when_folders_were_removed_by_hand() {
    let folder = temp_folder();
    let objects = open_objects(folder.path());
    objects.put_if_absent("a/b/one", Bytes::from_static(b"x")).await.expect("put");
    std::fs::remove_dir_all(folder.path().join("objects/a")).expect("remove");
    std::fs::remove_dir_all(folder.path().join("objects/.tmp")).expect("remove");
    let again = objects.put_if_absent("a/b/one", Bytes::from_static(b"y")).await.expect("put");
    assert_eq!(again, PutOutcome::Created);
    assert_eq!(objects.get("a/b/one").await.expect("get").as_deref(), Some(&b"y"[..]));
}

#[tokio::test]
async fn local_folder_that_cannot_be_written_is_refused() {
    let folder = temp_folder();
    // Below a file: permissions would not stop root.
    std::fs::write(folder.path().join("file"), "").expect("write");
    assert!(matches!(LocalObjects::open(folder.path().join("file/objects")), Err(Error::Refused { .. })));
    let objects = open_objects(folder.path());
    objects.put_if_absent("a", Bytes::from_static(b"x")).await.expect("put");
    let below_an_object = objects.put_if_absent("a/b", Bytes::from_static(b"x")).await;
    assert!(matches!(below_an_object, Err(Error::Refused { .. })), "{below_an_object:?}");
    assert_eq!(objects.get("a/b").await.expect("get"), None);
    objects.put_if_absent("folder/b", Bytes::from_static(b"x")).await.expect("put");
    let in_place_of_a_folder = objects.put_if_absent("folder", Bytes::from_static(b"x")).await;
    assert!(matches!(in_place_of_a_folder, Err(Error::Refused { .. })), "{in_place_of_a_folder:?}");
}

#[tokio::test]
async fn keys_that_leave_the_folder_are_refused() {
    let folder = temp_folder();
    let objects = open_objects(folder.path());
    std::fs::write(folder.path().join("secret"), "x").expect("write");
    for key in
        ["", "/", "../secret", "a/../../secret", "/etc/hostname", "a//b", "a/", "./a", ".tmp/a", "a\0b"]
    {
        let refused = |outcome| matches!(outcome, Err(Error::Refused { .. }));
        assert!(refused(objects.get(key).await.map(drop)), "get {key:?}");
        assert!(refused(objects.put_if_absent(key, Bytes::new()).await.map(drop)), "put {key:?}");
        assert!(refused(objects.delete(key).await), "delete {key:?}");
    }
}

#[cfg(feature = "aws")]
mod aws {
    use std::hash::{BuildHasher, Hasher, RandomState};

    use storage::aws::{Clients, Timeouts, clients};
    use storage::kv::dynamodb::{DynamoTable, create_table_if_absent};
    use storage::object::s3::{S3Objects, create_bucket_if_absent};

    use super::*;

    /// Clients of the emulator, or of AWS, that the environment names; `None` if it names none.
    #[expect(clippy::print_stdout, reason = "says why a test did nothing")]
    async fn named_clients() -> Option<Clients> {
        // The rest, region and credentials, and the endpoint too, the SDK takes from the environment.
        let Ok(endpoint) = std::env::var("SPANDREL_TEST_AWS_ENDPOINT") else {
            println!("skipped: SPANDREL_TEST_AWS_ENDPOINT is not set");
            return None;
        };
        if !endpoint.is_empty() {
            assert_eq!(
                std::env::var("AWS_ENDPOINT_URL").as_ref(),
                Ok(&endpoint),
                "set AWS_ENDPOINT_URL to the same"
            );
        }
        Some(clients(Timeouts::default()).await)
    }

    fn unique_name(of: &str) -> String {
        format!("spandrel-test-{of}-{:016x}", RandomState::new().build_hasher().finish())
    }

    async fn bucket(clients: &Clients) -> String {
        let bucket = unique_name("bucket");
        create_bucket_if_absent(&clients.s3, &bucket).await.expect("create a bucket");
        create_bucket_if_absent(&clients.s3, &bucket).await.expect("find the bucket");
        bucket
    }

    async fn table(clients: &Clients) -> String {
        let table = unique_name("table");
        create_table_if_absent(&clients.dynamodb, &table).await.expect("create a table");
        create_table_if_absent(&clients.dynamodb, &table).await.expect("find the table");
        table
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn s3_objects_conform() {
        let Some(clients) = named_clients().await else { return };
        let bucket = bucket(&clients).await;
        for prefix in ["", "some/prefix"] {
            conformance::object(Arc::new(S3Objects::new(clients.s3.clone(), &bucket, prefix))).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn dynamo_table_conforms() {
        let Some(clients) = named_clients().await else { return };
        let name = table(&clients).await;
        conformance::key_value(Arc::new(DynamoTable::new(clients.dynamodb.clone(), name))).await;
    }

    #[tokio::test]
    async fn missing_bucket_and_table_are_refused() {
        let Some(clients) = named_clients().await else { return };
        let objects = S3Objects::new(clients.s3.clone(), unique_name("missing"), "");
        let put = objects.put_if_absent("a", Bytes::from_static(b"x")).await;
        assert!(matches!(put, Err(Error::Refused { .. })), "{put:?}");
        let get = objects.get("a").await;
        assert!(matches!(get, Err(Error::Refused { .. })), "{get:?}");
        let table = DynamoTable::new(clients.dynamodb.clone(), unique_name("missing"));
        let key = Key::new("partition", "a");
        let put = table.put(key.clone(), NewItem::lasting("x"), Condition::Absent).await;
        assert!(matches!(put, Err(Error::Refused { .. })), "{put:?}");
        let get = table.get(&key).await;
        assert!(matches!(get, Err(Error::Refused { .. })), "{get:?}");
    }
}
