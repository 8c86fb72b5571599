//! The suite for object stores.

use std::sync::Arc;

use bytes::Bytes;

use super::{N_RACERS, fresh_prefix, race};
use crate::object::{Object, PutOutcome};

/// Runs every case for object stores.
///
/// # Panics
/// Where the implementation is wrong, or out of reach.
pub async fn object(store: Arc<dyn Object>) {
    put_stores_once(&*store).await;
    race_of_different_bodies_has_one_winner(&store).await;
    race_of_equal_bodies_has_one_winner(&store).await;
    loser_of_a_race_can_read_the_object(&store).await;
    ranges_are_cut_off_at_the_end(&*store).await;
    empty_object_is_an_object(&*store).await;
    missing_object_is_none(&*store).await;
    deleted_object_is_gone_and_can_be_stored_again(&*store).await;
    large_object_comes_back_whole_and_in_parts(&*store).await;
    keys_of_all_allowed_characters_work(&*store).await;
    list_is_in_key_order(&*store).await;
    list_pages_by_after_and_limit(&*store).await;
    list_keeps_to_the_prefix(&*store).await;
    concurrent_puts_are_all_there(&store).await;
}

async fn put(store: &dyn Object, key: &str, body: &[u8]) -> PutOutcome {
    store.put_if_absent(key, Bytes::copy_from_slice(body)).await.expect("put")
}

async fn get(store: &dyn Object, key: &str) -> Option<Bytes> {
    store.get(key).await.expect("get")
}

async fn list(store: &dyn Object, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let found = store.list(prefix, after, limit).await.expect("list");
    found.into_iter().map(|meta| meta.key).collect()
}

async fn put_stores_once(store: &dyn Object) {
    let key = format!("{}/object", fresh_prefix("put_stores_once"));
    assert_eq!(put(store, &key, b"first").await, PutOutcome::Created);
    assert_eq!(put(store, &key, b"second, longer").await, PutOutcome::AlreadyThere);
    assert_eq!(put(store, &key, b"first").await, PutOutcome::AlreadyThere);
    assert_eq!(get(store, &key).await.as_deref(), Some(&b"first"[..]));
    assert_eq!(store.head(&key).await.expect("head"), Some(5));
}

async fn race_of_different_bodies_has_one_winner(store: &Arc<dyn Object>) {
    let key = format!("{}/object", fresh_prefix("different_bodies"));
    let bodies: Vec<Bytes> = (0..N_RACERS).map(|i| Bytes::from(vec![i as u8; 1_000 + i])).collect();
    let outcomes = race(bodies.iter().map(|body| put_owned(store, &key, body)).collect()).await;
    let winners: Vec<usize> = (0..N_RACERS).filter(|&i| outcomes[i] == PutOutcome::Created).collect();
    assert_eq!(winners.len(), 1, "winners of the race: {winners:?}");
    assert_eq!(get(&**store, &key).await.as_ref(), Some(&bodies[winners[0]]));
}

async fn race_of_equal_bodies_has_one_winner(store: &Arc<dyn Object>) {
    let key = format!("{}/object", fresh_prefix("equal_bodies"));
    let body = Bytes::from(vec![7; 100_000]);
    let outcomes = race((0..N_RACERS).map(|_| put_owned(store, &key, &body)).collect()).await;
    assert_eq!(outcomes.iter().filter(|&&outcome| outcome == PutOutcome::Created).count(), 1);
    assert_eq!(get(&**store, &key).await, Some(body));
}

async fn loser_of_a_race_can_read_the_object(store: &Arc<dyn Object>) {
    let key = format!("{}/object", fresh_prefix("loser_can_read"));
    let body = Bytes::from(vec![1; 50_000]);
    let put_then_get = || {
        let (put, store, key) = (put_owned(store, &key, &body), Arc::clone(store), key.clone());
        async move {
            put.await;
            get(&*store, &key).await
        }
    };
    for read in race((0..N_RACERS).map(|_| put_then_get()).collect()).await {
        assert_eq!(read.as_ref(), Some(&body));
    }
}

fn put_owned(
    store: &Arc<dyn Object>,
    key: &str,
    body: &Bytes,
) -> impl Future<Output = PutOutcome> + Send + 'static {
    let (store, key, body) = (Arc::clone(store), key.to_owned(), body.clone());
    async move { store.put_if_absent(&key, body).await.expect("put") }
}

async fn ranges_are_cut_off_at_the_end(store: &dyn Object) {
    let key = format!("{}/object", fresh_prefix("ranges"));
    let body: Vec<u8> = (0..1_000_u32).map(|i| (i % 251) as u8).collect();
    put(store, &key, &body).await;
    for (start, end) in [
        (0, 1_000),
        (0, 1),
        (999, 1_000),
        (500, 501),
        (10, 20),
        (0, 0),
        (500, 500),
        (990, 1_010),
        (0, u64::MAX),
        (999, u64::MAX),
        (1_000, 1_001),
        (1_000, 1_000),
        (1_001, 2_000),
        (1 << 40, u64::MAX),
    ] {
        let read = store.get_range(&key, start..end).await.expect("get_range");
        let expected = &body[start.min(1_000) as usize..end.min(1_000).max(start.min(1_000)) as usize];
        assert_eq!(read.as_deref(), Some(expected), "range {start}..{end}");
    }
}

async fn empty_object_is_an_object(store: &dyn Object) {
    let key = format!("{}/object", fresh_prefix("empty"));
    assert_eq!(put(store, &key, b"").await, PutOutcome::Created);
    assert_eq!(put(store, &key, b"something").await, PutOutcome::AlreadyThere);
    assert_eq!(get(store, &key).await.as_deref(), Some(&b""[..]));
    assert_eq!(store.head(&key).await.expect("head"), Some(0));
    assert_eq!(store.get_range(&key, 0..10).await.expect("get_range").as_deref(), Some(&b""[..]));
    assert_eq!(store.get_range(&key, 0..0).await.expect("get_range").as_deref(), Some(&b""[..]));
}

async fn missing_object_is_none(store: &dyn Object) {
    let prefix = fresh_prefix("missing");
    for key in [format!("{prefix}/object"), format!("{prefix}/deep/below/object")] {
        assert_eq!(get(store, &key).await, None);
        assert_eq!(store.get_range(&key, 0..10).await.expect("get_range"), None);
        assert_eq!(store.get_range(&key, 10..10).await.expect("get_range"), None);
        assert_eq!(store.head(&key).await.expect("head"), None);
        store.delete(&key).await.expect("delete of what is not there");
    }
    assert!(list(store, &prefix, None, 10).await.is_empty());
    // A prefix of another object's key is no object.
    put(store, &format!("{prefix}/folder/object"), b"x").await;
    assert_eq!(get(store, &format!("{prefix}/folder")).await, None);
    assert_eq!(store.head(&format!("{prefix}/folder")).await.expect("head"), None);
}

async fn deleted_object_is_gone_and_can_be_stored_again(store: &dyn Object) {
    let key = format!("{}/object", fresh_prefix("delete"));
    put(store, &key, b"old").await;
    store.delete(&key).await.expect("delete");
    assert_eq!(get(store, &key).await, None);
    assert_eq!(store.head(&key).await.expect("head"), None);
    store.delete(&key).await.expect("second delete");
    assert_eq!(put(store, &key, b"new").await, PutOutcome::Created);
    assert_eq!(get(store, &key).await.as_deref(), Some(&b"new"[..]));
}

async fn large_object_comes_back_whole_and_in_parts(store: &dyn Object) {
    let key = format!("{}/object", fresh_prefix("large"));
    let body: Bytes = (0..8_u32 << 18).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    assert_eq!(body.len(), 8 << 20);
    assert_eq!(store.put_if_absent(&key, body.clone()).await.expect("put"), PutOutcome::Created);
    assert!(get(store, &key).await == Some(body.clone()), "the object differs from what was stored");
    for range in [0..4, 4_194_000..4_195_000, 1_000_000..7_000_000, 8_388_600..8_388_608] {
        let read = store.get_range(&key, range.clone()).await.expect("get_range");
        let expected = body.slice(range.start as usize..range.end as usize);
        assert!(read == Some(expected), "range {range:?} differs from what was stored");
    }
}

async fn keys_of_all_allowed_characters_work(store: &dyn Object) {
    let prefix = fresh_prefix("characters");
    for key in [
        format!("{prefix}/tenant=a.b-c_D/date=2026-11-23/hour=07/0123456789abcdef-XYZ.parquet"),
        format!("{prefix}/..a/b..c/.d=/e"),
        format!("{prefix}/{}", "long-part.".repeat(20)),
    ] {
        assert_eq!(put(store, &key, key.as_bytes()).await, PutOutcome::Created);
        assert_eq!(get(store, &key).await.as_deref(), Some(key.as_bytes()));
        assert_eq!(list(store, &key, None, 10).await, [key]);
    }
}

/// Ascending; folders and files whose order differs when the slash is forgotten.
fn ordered_keys(prefix: &str) -> Vec<String> {
    let names = ["a-b/1", "a-b/2", "a.b", "a/b", "a/b-c", "a/c/d", "a0", "aa/1", "b"];
    names.iter().map(|name| format!("{prefix}/{name}")).collect()
}

async fn list_is_in_key_order(store: &dyn Object) {
    let prefix = fresh_prefix("order");
    let keys = ordered_keys(&prefix);
    for (i, key) in keys.iter().enumerate().rev() {
        put(store, key, &vec![0; i]).await;
    }
    let listed = store.list(&format!("{prefix}/"), None, 1_000).await.expect("list");
    let listed: Vec<(String, u64)> = listed.into_iter().map(|object| (object.key, object.size)).collect();
    let expected: Vec<(String, u64)> = keys.into_iter().zip(0..).collect();
    assert_eq!(listed, expected);
}

async fn list_pages_by_after_and_limit(store: &dyn Object) {
    let prefix = fresh_prefix("pages");
    let keys = ordered_keys(&prefix);
    for key in &keys {
        put(store, key, b"x").await;
    }
    for limit in [1, 2, 4, keys.len(), 100] {
        let mut listed: Vec<String> = Vec::new();
        loop {
            let page = list(store, &prefix, listed.last().map(String::as_str), limit).await;
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            listed.extend(page);
        }
        assert_eq!(listed, keys, "in pages of {limit}");
    }
    // `after` need not be the key of an object, nor in the prefix.
    assert_eq!(list(store, &prefix, Some(&format!("{prefix}/a/")), 2).await, &keys[3..5]);
    assert_eq!(list(store, &prefix, Some(&format!("{prefix}/a/b-")), 2).await, &keys[4..6]);
    assert_eq!(list(store, &prefix, Some("0"), 1).await, &keys[..1]);
    assert_eq!(list(store, &prefix, Some("zzz"), 1).await, [""; 0]);
    assert_eq!(list(store, &prefix, None, 0).await, [""; 0]);
}

async fn list_keeps_to_the_prefix(store: &dyn Object) {
    let prefix = fresh_prefix("prefix");
    let keys = ordered_keys(&prefix);
    for key in &keys {
        put(store, key, b"x").await;
    }
    for (below, expected) in [
        ("/a", 0..8),
        ("/a-", 0..2),
        ("/a-b/2", 1..2),
        ("/a/", 3..6),
        ("/a/b", 3..5),
        ("/a/c/", 5..6),
        ("/b", 8..9),
        ("/c", 0..0),
        ("/b/", 0..0),
        ("/a/b/c/", 0..0),
    ] {
        assert_eq!(
            list(store, &format!("{prefix}{below}"), None, 100).await,
            &keys[expected],
            "prefix {below}"
        );
    }
}

async fn concurrent_puts_are_all_there(store: &Arc<dyn Object>) {
    let prefix = fresh_prefix("concurrent");
    let keys: Vec<String> = (0..64).map(|i| format!("{prefix}/hour={:02}/{i:03}", i % 8)).collect();
    let put_and_get = |key: &String| {
        let (store, key) = (Arc::clone(store), key.clone());
        async move {
            let outcome = put(&*store, &key, key.as_bytes()).await;
            (outcome, get(&*store, &key).await)
        }
    };
    for (key, (outcome, read)) in keys.iter().zip(race(keys.iter().map(put_and_get).collect()).await) {
        assert_eq!(outcome, PutOutcome::Created);
        assert_eq!(read.as_deref(), Some(key.as_bytes()));
    }
    assert_eq!(list(&**store, &format!("{prefix}/"), None, 1_000).await.len(), keys.len());
}
