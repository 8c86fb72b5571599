//! The suite for key-value tables.

use std::sync::Arc;

use bytes::Bytes;

use super::{N_RACERS, fresh_prefix, race};
use crate::Error;
use crate::kv::{
    Condition, Item, Key, KeyValue, MAX_TRANSACTION, MAX_VALUE_BYTES, NewItem, Outcome, SortRange, Write,
    range_all,
};

/// Runs every case for key-value tables.
///
/// # Panics
/// Where the implementation is wrong, or out of reach.
pub async fn key_value(table: Arc<dyn KeyValue>) {
    put_and_get_an_item(&*table).await;
    every_write_changes_the_version(&*table).await;
    conditions_decide_a_put(&*table).await;
    delete_is_idempotent(&*table).await;
    version_of_a_deleted_item_does_not_come_back(&*table).await;
    race_to_create_has_one_winner(&table).await;
    race_to_replace_has_one_winner(&table).await;
    racing_increments_lose_nothing(&table).await;
    transaction_writes_all_or_nothing(&*table).await;
    conditions_decide_a_delete(&*table).await;
    checks_guard_a_transaction(&*table).await;
    transaction_of_one_write_works(&*table).await;
    largest_transaction_works(&*table).await;
    racing_transactions_have_one_winner(&table).await;
    too_much_is_refused(&*table).await;
    batch_get_keeps_the_order_of_keys(&*table).await;
    range_is_in_order_and_cut_by_its_ends(&*table).await;
    range_pages_by_limit(&*table).await;
    range_of_large_items_pages_by_itself(&*table).await;
    partitions_do_not_mix(&*table).await;
    sort_keys_are_ordered_by_bytes(&*table).await;
    any_bytes_are_a_value(&*table).await;
    largest_value_works(&*table).await;
    expiry_is_accepted(&*table).await;
}

fn item(value: &str) -> NewItem {
    NewItem::lasting(Bytes::copy_from_slice(value.as_bytes()))
}

async fn get(table: &dyn KeyValue, key: &Key) -> Option<Item> {
    table.get(key).await.expect("get")
}

async fn value(table: &dyn KeyValue, key: &Key) -> Option<String> {
    get(table, key)
        .await
        .map(|item| String::from_utf8(item.value.to_vec()).expect("the value that was stored"))
}

async fn put(table: &dyn KeyValue, key: &Key, value: &str, condition: Condition) -> Outcome {
    table.put(key.clone(), item(value), condition).await.expect("put")
}

async fn version(table: &dyn KeyValue, key: &Key) -> u64 {
    get(table, key).await.expect("the item that was stored").version
}

async fn transact(table: &dyn KeyValue, writes: Vec<Write>) -> Outcome {
    table.transact(writes).await.expect("transact")
}

async fn sort_keys(table: &dyn KeyValue, partition: &str, range: SortRange<'_>) -> Vec<String> {
    let items = range_all(table, partition, range).await.expect("range");
    items.into_iter().map(|(sort, _)| sort).collect()
}

async fn put_and_get_an_item(table: &dyn KeyValue) {
    let key = Key::new(fresh_prefix("get"), "a");
    assert_eq!(get(table, &key).await, None);
    assert_eq!(put(table, &key, "one", Condition::None).await, Outcome::Written);
    assert_eq!(value(table, &key).await.as_deref(), Some("one"));
    assert_eq!(get(table, &Key::new(&*key.partition, "b")).await, None);
    assert_eq!(put(table, &key, "two", Condition::None).await, Outcome::Written);
    assert_eq!(value(table, &key).await.as_deref(), Some("two"));
}

async fn every_write_changes_the_version(table: &dyn KeyValue) {
    let key = Key::new(fresh_prefix("versions"), "a");
    let mut seen = Vec::new();
    for _ in 0..10 {
        put(table, &key, "the same", Condition::None).await;
        seen.push(version(table, &key).await);
    }
    transact(table, vec![Write::Put(key.clone(), item("the same"), Condition::None)]).await;
    seen.push(version(table, &key).await);
    assert_eq!(version(table, &key).await, version(table, &key).await, "reading changes no version");
    assert!(!seen.contains(&0));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 11);
}

async fn conditions_decide_a_put(table: &dyn KeyValue) {
    let key = Key::new(fresh_prefix("conditions"), "a");
    assert_eq!(put(table, &key, "x", Condition::Version(1)).await, Outcome::ConditionFailed);
    assert_eq!(get(table, &key).await, None);
    assert_eq!(put(table, &key, "one", Condition::Absent).await, Outcome::Written);
    assert_eq!(put(table, &key, "x", Condition::Absent).await, Outcome::ConditionFailed);
    let first = version(table, &key).await;
    assert_eq!(
        put(table, &key, "x", Condition::Version(first.wrapping_add(1))).await,
        Outcome::ConditionFailed
    );
    assert_eq!(value(table, &key).await.as_deref(), Some("one"));
    assert_eq!(version(table, &key).await, first);
    assert_eq!(put(table, &key, "two", Condition::Version(first)).await, Outcome::Written);
    assert_eq!(put(table, &key, "x", Condition::Version(first)).await, Outcome::ConditionFailed);
    assert_eq!(value(table, &key).await.as_deref(), Some("two"));
}

async fn delete_is_idempotent(table: &dyn KeyValue) {
    let key = Key::new(fresh_prefix("delete"), "a");
    table.delete(&key).await.expect("delete of what is not there");
    put(table, &key, "one", Condition::None).await;
    table.delete(&key).await.expect("delete");
    assert_eq!(get(table, &key).await, None);
    table.delete(&key).await.expect("second delete");
    assert_eq!(sort_keys(table, &key.partition, SortRange::ALL).await, [""; 0]);
    assert_eq!(put(table, &key, "again", Condition::Absent).await, Outcome::Written);
}

async fn version_of_a_deleted_item_does_not_come_back(table: &dyn KeyValue) {
    let key = Key::new(fresh_prefix("no_aba"), "a");
    put(table, &key, "one", Condition::None).await;
    let first = version(table, &key).await;
    table.delete(&key).await.expect("delete");
    assert_eq!(put(table, &key, "x", Condition::Version(first)).await, Outcome::ConditionFailed);
    put(table, &key, "one", Condition::Absent).await;
    assert_ne!(version(table, &key).await, first);
    assert_eq!(put(table, &key, "x", Condition::Version(first)).await, Outcome::ConditionFailed);
}

/// The one racer whose put was written.
async fn winner_of_puts(table: &Arc<dyn KeyValue>, key: &Key, condition: Condition) -> usize {
    let racer = |i: usize| {
        let (table, key) = (Arc::clone(table), key.clone());
        async move { put(&*table, &key, &i.to_string(), condition).await }
    };
    let outcomes = race((0..N_RACERS).map(racer).collect()).await;
    let winners: Vec<usize> = (0..N_RACERS).filter(|&i| outcomes[i] == Outcome::Written).collect();
    assert_eq!(winners.len(), 1, "winners of the race: {winners:?}");
    winners[0]
}

async fn race_to_create_has_one_winner(table: &Arc<dyn KeyValue>) {
    let key = Key::new(fresh_prefix("race_create"), "a");
    let winner = winner_of_puts(table, &key, Condition::Absent).await;
    assert_eq!(value(&**table, &key).await, Some(winner.to_string()));
}

async fn race_to_replace_has_one_winner(table: &Arc<dyn KeyValue>) {
    let key = Key::new(fresh_prefix("race_replace"), "a");
    put(&**table, &key, "old", Condition::Absent).await;
    let old = version(&**table, &key).await;
    let winner = winner_of_puts(table, &key, Condition::Version(old)).await;
    assert_eq!(value(&**table, &key).await, Some(winner.to_string()));
}

async fn racing_increments_lose_nothing(table: &Arc<dyn KeyValue>) {
    let key = Key::new(fresh_prefix("increments"), "a");
    put(&**table, &key, "0", Condition::Absent).await;
    let increment = |_| {
        let (table, key) = (Arc::clone(table), key.clone());
        async move {
            for _ in 0..3 {
                loop {
                    let old = get(&*table, &key).await.expect("the counter");
                    let count: u64 = std::str::from_utf8(&old.value)
                        .ok()
                        .and_then(|text| text.parse().ok())
                        .expect("a number");
                    let new = (count + 1).to_string();
                    if put(&*table, &key, &new, Condition::Version(old.version)).await == Outcome::Written {
                        break;
                    }
                }
            }
        }
    };
    race((0..8).map(increment).collect()).await;
    assert_eq!(value(&**table, &key).await.as_deref(), Some("24"));
}

async fn transaction_writes_all_or_nothing(table: &dyn KeyValue) {
    let partition = fresh_prefix("transaction");
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|sort| Key::new(&*partition, sort));
    put(table, &d, "to be deleted", Condition::None).await;
    let writes = |condition_of_c| {
        vec![
            Write::Put(a.clone(), item("a"), Condition::Absent),
            // In another partition.
            Write::Put(Key::new(format!("{partition}/other"), "b"), item("b"), Condition::None),
            Write::Put(c.clone(), item("c"), condition_of_c),
            Write::Delete(d.clone(), Condition::None),
            Write::Check(b.clone(), Condition::Absent),
        ]
    };
    assert_eq!(transact(table, writes(Condition::Version(1))).await, Outcome::ConditionFailed);
    assert_eq!(sort_keys(table, &partition, SortRange::ALL).await, ["d"]);
    assert_eq!(sort_keys(table, &format!("{partition}/other"), SortRange::ALL).await, [""; 0]);
    assert_eq!(transact(table, writes(Condition::Absent)).await, Outcome::Written);
    assert_eq!(sort_keys(table, &partition, SortRange::ALL).await, ["a", "c"]);
    assert_eq!(sort_keys(table, &format!("{partition}/other"), SortRange::ALL).await, ["b"]);
    // The first condition fails now.
    assert_eq!(transact(table, writes(Condition::None)).await, Outcome::ConditionFailed);
    assert_ne!(
        version(table, &a).await,
        version(table, &c).await,
        "each item of a transaction has its version"
    );
}

async fn conditions_decide_a_delete(table: &dyn KeyValue) {
    let key = Key::new(fresh_prefix("conditional_delete"), "a");
    let delete = |condition| transact(table, vec![Write::Delete(key.clone(), condition)]);
    assert_eq!(delete(Condition::None).await, Outcome::Written);
    assert_eq!(delete(Condition::Absent).await, Outcome::Written);
    assert_eq!(delete(Condition::Version(1)).await, Outcome::ConditionFailed);
    put(table, &key, "one", Condition::None).await;
    let first = version(table, &key).await;
    put(table, &key, "two", Condition::None).await;
    assert_eq!(delete(Condition::Version(first)).await, Outcome::ConditionFailed);
    assert_eq!(delete(Condition::Absent).await, Outcome::ConditionFailed);
    assert_eq!(value(table, &key).await.as_deref(), Some("two"));
    assert_eq!(delete(Condition::Version(version(table, &key).await)).await, Outcome::Written);
    assert_eq!(get(table, &key).await, None);
}

async fn checks_guard_a_transaction(table: &dyn KeyValue) {
    let partition = fresh_prefix("checks");
    let [lease, target] = ["lease", "target"].map(|sort| Key::new(&*partition, sort));
    put(table, &lease, "holder", Condition::None).await;
    let held = version(table, &lease).await;
    let write = |condition, value: &str| {
        let put = Write::Put(target.clone(), item(value), Condition::None);
        transact(table, vec![Write::Check(lease.clone(), condition), put])
    };
    assert_eq!(write(Condition::Absent, "x").await, Outcome::ConditionFailed);
    assert_eq!(write(Condition::Version(held.wrapping_add(1)), "x").await, Outcome::ConditionFailed);
    assert_eq!(get(table, &target).await, None);
    assert_eq!(write(Condition::Version(held), "one").await, Outcome::Written);
    assert_eq!(version(table, &lease).await, held, "a check writes nothing");
    assert_eq!(write(Condition::None, "two").await, Outcome::Written);
    put(table, &lease, "other holder", Condition::Version(held)).await;
    assert_eq!(write(Condition::Version(held), "x").await, Outcome::ConditionFailed);
    assert_eq!(value(table, &target).await.as_deref(), Some("two"));
}

async fn transaction_of_one_write_works(table: &dyn KeyValue) {
    let key = Key::new(fresh_prefix("single"), "a");
    assert_eq!(transact(table, vec![]).await, Outcome::Written);
    let put_absent = || vec![Write::Put(key.clone(), item("one"), Condition::Absent)];
    assert_eq!(transact(table, vec![Write::Check(key.clone(), Condition::Absent)]).await, Outcome::Written);
    assert_eq!(transact(table, put_absent()).await, Outcome::Written);
    assert_eq!(transact(table, put_absent()).await, Outcome::ConditionFailed);
    let check = |condition| transact(table, vec![Write::Check(key.clone(), condition)]);
    assert_eq!(check(Condition::Absent).await, Outcome::ConditionFailed);
    assert_eq!(check(Condition::Version(version(table, &key).await)).await, Outcome::Written);
    assert_eq!(check(Condition::None).await, Outcome::Written);
    assert_eq!(value(table, &key).await.as_deref(), Some("one"));
}

async fn largest_transaction_works(table: &dyn KeyValue) {
    let partition = fresh_prefix("largest_transaction");
    let sorts: Vec<String> = (0..MAX_TRANSACTION).map(|i| format!("{i:03}")).collect();
    let puts = |condition| {
        let put = |sort: &String| Write::Put(Key::new(&*partition, &**sort), item(sort), condition);
        sorts.iter().map(put).collect()
    };
    assert_eq!(transact(table, puts(Condition::Absent)).await, Outcome::Written);
    assert_eq!(sort_keys(table, &partition, SortRange::ALL).await, sorts);
    assert_eq!(transact(table, puts(Condition::Absent)).await, Outcome::ConditionFailed);
}

async fn racing_transactions_have_one_winner(table: &Arc<dyn KeyValue>) {
    let partition = fresh_prefix("race_transactions");
    let [inputs, output] = ["inputs", "output"].map(|sort| Key::new(&*partition, sort));
    put(&**table, &inputs, "to be merged", Condition::None).await;
    let old = version(&**table, &inputs).await;
    // As compaction does it: one output instead of the inputs.
    let racer = |i: usize| {
        let (table, inputs, output) = (Arc::clone(table), inputs.clone(), output.clone());
        async move {
            let writes = vec![
                Write::Delete(inputs, Condition::Version(old)),
                Write::Put(output, item(&i.to_string()), Condition::Absent),
            ];
            loop {
                match table.transact(writes.clone()).await {
                    Ok(outcome) => return outcome,
                    // Under contention a store may give up; nothing was written, or the next try tells.
                    Err(Error::Unavailable { .. }) => {}
                    Err(error) => panic!("transact: {error:?}"),
                }
            }
        }
    };
    let outcomes = race((0..8).map(racer).collect()).await;
    let winners: Vec<usize> = (0..8).filter(|&i| outcomes[i] == Outcome::Written).collect();
    assert_eq!(winners.len(), 1, "winners of the race: {winners:?}");
    assert_eq!(value(&**table, &output).await, Some(winners[0].to_string()));
    assert_eq!(get(&**table, &inputs).await, None);
}

async fn too_much_is_refused(table: &dyn KeyValue) {
    let partition = fresh_prefix("refused");
    let key = |sort: &str| Key::new(&*partition, sort);
    let put = |key, value: NewItem| Write::Put(key, value, Condition::None);
    for (what, writes) in [
        ("101 writes", (0..=MAX_TRANSACTION).map(|i| put(key(&i.to_string()), item("x"))).collect()),
        ("two writes to one key", vec![put(key("a"), item("x")), Write::Check(key("a"), Condition::None)]),
        ("large value", vec![put(key("a"), NewItem::lasting(vec![0; MAX_VALUE_BYTES + 1]))]),
        ("empty sort key", vec![put(key(""), item("x"))]),
        ("empty partition", vec![put(Key::new("", "a"), item("x"))]),
    ] {
        let outcome = table.transact(writes).await;
        assert!(matches!(outcome, Err(Error::Refused { .. })), "{what}: {outcome:?}");
    }
    assert_eq!(sort_keys(table, &partition, SortRange::ALL).await, [""; 0]);
}

async fn batch_get_keeps_the_order_of_keys(table: &dyn KeyValue) {
    let partition = fresh_prefix("batch_get");
    // Two of three are there; not in ascending order, as 7 and 250 have no common factor.
    let keys: Vec<Key> = (0..250).map(|i| Key::new(&*partition, format!("{:03}", i * 7 % 250))).collect();
    for some in keys.chunks(MAX_TRANSACTION) {
        let there = some.iter().enumerate().filter(|(i, _)| i % 3 != 1);
        let puts = there.map(|(_, key)| Write::Put(key.clone(), item(&key.sort), Condition::None)).collect();
        transact(table, puts).await;
    }
    let found = table.batch_get(&keys).await.expect("batch_get");
    assert_eq!(found.len(), keys.len());
    for (i, (key, found)) in keys.iter().zip(&found).enumerate() {
        let expected = (i % MAX_TRANSACTION % 3 != 1).then_some(key.sort.as_bytes());
        assert_eq!(found.as_ref().map(|item| &item.value[..]), expected, "key {i}, {}", key.sort);
    }
    assert_eq!(found[0].as_ref(), get(table, &keys[0]).await.as_ref(), "the same version as get gives");
    assert_eq!(table.batch_get(&[]).await.expect("batch_get"), []);
    let all_missing = table.batch_get(&[Key::new(&*partition, "x"), Key::new(&*partition, "y")]).await;
    assert_eq!(all_missing.expect("batch_get"), [None, None]);
}

async fn range_is_in_order_and_cut_by_its_ends(table: &dyn KeyValue) {
    let partition = fresh_prefix("range");
    for sort in ["d", "b", "a", "c", "e", "bb"] {
        put(table, &Key::new(&*partition, sort), sort, Condition::None).await;
    }
    for (start, end, after, expected) in [
        ("", None, None, &["a", "b", "bb", "c", "d", "e"][..]),
        ("b", None, None, &["b", "bb", "c", "d", "e"]),
        ("b", Some("d"), None, &["b", "bb", "c"]),
        ("", Some("b"), None, &["a"]),
        ("ba", Some("bc"), None, &["bb"]),
        ("c", Some("c"), None, &[]),
        ("d", Some("b"), None, &[]),
        ("f", None, None, &[]),
        ("", Some("a"), None, &[]),
        ("", None, Some("b"), &["bb", "c", "d", "e"]),
        ("b", Some("d"), Some("b"), &["bb", "c"]),
        ("b", Some("d"), Some("c"), &[]),
        ("b", Some("d"), Some("ba"), &["bb", "c"]),
        ("c", None, Some("a"), &["c", "d", "e"]),
        ("b", Some("c"), Some("e"), &[]),
        ("", None, Some("e"), &[]),
    ] {
        let page = table.range(&partition, SortRange { start, end }, after, 100).await.expect("range");
        let sorts: Vec<&str> = page.items.iter().map(|(sort, _)| &**sort).collect();
        assert_eq!(sorts, expected, "range {start}..{end:?} after {after:?}");
        assert!(page.items.iter().all(|(sort, item)| item.value == sort.as_bytes()));
    }
    let page = table.range(&partition, SortRange::ALL, None, 1).await.expect("range");
    assert_eq!(page.items[0].1.version, version(table, &Key::new(&*partition, "a")).await);
}

async fn range_pages_by_limit(table: &dyn KeyValue) {
    let partition = fresh_prefix("pages");
    let sorts: Vec<String> = (0..25).map(|i| format!("{i:02}")).collect();
    let puts =
        sorts.iter().map(|sort| Write::Put(Key::new(&*partition, &**sort), item(sort), Condition::None));
    transact(table, puts.collect()).await;
    for limit in [1, 7, 24, 25, 26, usize::MAX] {
        for range in [SortRange::ALL, SortRange { start: "03", end: Some("20") }] {
            let mut listed = Vec::new();
            let mut after: Option<String> = None;
            loop {
                let page = table.range(&partition, range, after.as_deref(), limit).await.expect("range");
                assert!(page.items.len() <= limit);
                listed.extend(page.items.into_iter().map(|(sort, _)| sort));
                if page.next.is_none() {
                    break;
                }
                assert_eq!(page.next.as_ref(), listed.last());
                after = page.next;
            }
            let expected = if range == SortRange::ALL { &sorts[..] } else { &sorts[3..20] };
            assert_eq!(listed, expected, "{range:?} in pages of {limit}");
        }
    }
}

async fn range_of_large_items_pages_by_itself(table: &dyn KeyValue) {
    let partition = fresh_prefix("large_range");
    let sorts: Vec<String> = (0..12).map(|i| format!("{i:02}")).collect();
    for sort in &sorts {
        let value = NewItem::lasting(vec![sort.as_bytes()[1]; 250_000]);
        table.put(Key::new(&*partition, &**sort), value, Condition::None).await.expect("put");
    }
    let first = table.range(&partition, SortRange::ALL, None, usize::MAX).await.expect("range");
    assert!(first.next.is_some(), "3 MB in one page");
    let items = range_all(table, &partition, SortRange::ALL).await.expect("range");
    assert_eq!(items.iter().map(|(sort, _)| sort).collect::<Vec<_>>(), sorts.iter().collect::<Vec<_>>());
    assert!(items.iter().all(|(sort, item)| item.value == vec![sort.as_bytes()[1]; 250_000]));
}

async fn partitions_do_not_mix(table: &dyn KeyValue) {
    let prefix = fresh_prefix("partitions");
    // Each begins with the one before it, or continues where a separator could be.
    let partitions = ["", "a", "a#", "a#b", "ab", "b", "\u{e9}"].map(|end| format!("{prefix}{end}"));
    for partition in &partitions {
        for sort in ["#b", "a", "b"] {
            put(table, &Key::new(&**partition, sort), &format!("{partition} {sort}"), Condition::Absent)
                .await;
        }
    }
    for partition in &partitions {
        let items = range_all(table, partition, SortRange::ALL).await.expect("range");
        let values: Vec<&[u8]> = items.iter().map(|(_, item)| &item.value[..]).collect();
        let expected = ["#b", "a", "b"].map(|sort| format!("{partition} {sort}"));
        assert_eq!(values, expected.iter().map(String::as_bytes).collect::<Vec<_>>());
        assert_eq!(sort_keys(table, partition, SortRange { start: "b", end: None }).await, ["b"]);
    }
    assert_eq!(sort_keys(table, &format!("{prefix}nothing"), SortRange::ALL).await, [""; 0]);
}

async fn sort_keys_are_ordered_by_bytes(table: &dyn KeyValue) {
    let partition = fresh_prefix("order");
    let sorts = [
        "!",
        "0#",
        "00",
        "10",
        "9",
        "A",
        "B#1",
        "Z",
        "a",
        "a!",
        "aa",
        "b",
        "~",
        "\u{e9}",
        "\u{20ac}",
        "\u{1f600}",
    ];
    for sort in sorts.iter().rev() {
        put(table, &Key::new(&*partition, *sort), sort, Condition::Absent).await;
    }
    assert_eq!(sort_keys(table, &partition, SortRange::ALL).await, sorts);
    let long = "k".repeat(512);
    put(table, &Key::new(&*partition, &*long), "long", Condition::Absent).await;
    assert_eq!(value(table, &Key::new(&*partition, &*long)).await.as_deref(), Some("long"));
}

async fn any_bytes_are_a_value(table: &dyn KeyValue) {
    let partition = fresh_prefix("bytes");
    let all_bytes: Vec<u8> = (0..=255).collect();
    for (sort, value) in
        [("all", &all_bytes[..]), ("zero", &[0]), ("not-utf8", &[0xff, 0xfe, 0x80]), ("empty", &[])]
    {
        let key = Key::new(&*partition, sort);
        let new = NewItem::lasting(Bytes::copy_from_slice(value));
        table.put(key.clone(), new, Condition::Absent).await.expect("put");
        let read = get(table, &key).await.expect("the item that was stored");
        assert_eq!(&read.value[..], value, "{sort}");
    }
}

async fn largest_value_works(table: &dyn KeyValue) {
    let key = Key::new(fresh_prefix("large"), "a");
    for n_bytes in [370_000, MAX_VALUE_BYTES] {
        let value: Bytes = (0..n_bytes).map(|i| (i * 31 % 256) as u8).collect();
        let outcome =
            table.put(key.clone(), NewItem::lasting(value.clone()), Condition::None).await.expect("put");
        assert_eq!(outcome, Outcome::Written);
        assert!(
            get(table, &key).await.expect("the item that was stored").value == value,
            "{n_bytes} bytes differ"
        );
    }
}

async fn expiry_is_accepted(table: &dyn KeyValue) {
    let partition = fresh_prefix("expiry");
    // In the year 2100: no store may remove it while the suite runs.
    let new = NewItem { value: Bytes::from_static(b"x"), expires_at_s: Some(4_102_444_800) };
    let key = Key::new(&*partition, "a");
    assert_eq!(table.put(key.clone(), new.clone(), Condition::Absent).await.expect("put"), Outcome::Written);
    let put = Write::Put(Key::new(&*partition, "b"), new, Condition::Absent);
    let check = Write::Check(key.clone(), Condition::None);
    assert_eq!(transact(table, vec![put, check]).await, Outcome::Written);
    assert_eq!(sort_keys(table, &partition, SortRange::ALL).await, ["a", "b"]);
    assert_eq!(value(table, &key).await.as_deref(), Some("x"));
}
