//! Traces by id over a month: how many rounds of calls follow from each other, and what each costs.
//!
//! The stores hold every call until no other can begin without it, then answer all at once: so rounds are counted exactly,
//! without a clock.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use model::spans::SpanFields;
use model::{Signal, SpanColumns, SpanId, TenantId, TraceId};
use storage::compact::{self, Rules, Settings};
use storage::index::{TableLayout, Window};
use storage::kv::memory::MemoryTable;
use storage::kv::{Condition, Item, Key, KeyValue, NewItem, Outcome, Page, SortRange, Write};
use storage::object::memory::MemoryObjects;
use storage::object::{Object, ObjectMeta, PutOutcome};
use storage::read::{self, Limits, RecentTraces};
use storage::write::{Writer, content_hash};
use storage::{Calls, Result, Store, Usage};
use tokio::sync::oneshot;
use tokio::task::yield_now;

/// Days since the epoch of the first day.
const FIRST_DAY: u64 = 20_000;
const DAYS: u64 = 30;
const DAY_S: u64 = 86_400;
/// Of a day's hours these have spans. Traces of the second go on in the last.
const HOURS: [u64; 3] = [0, 9, 23];
/// In a day more than an item lists.
const TRACES_OF_HOUR: u64 = 2_840;
/// More than one unit, and less than two: a day has several files, as one of a thousand times as many
/// spans has.
const TARGET_BYTES: u64 = 90_000;
/// More turns than any chain of tasks takes to come to its next call.
const TURNS: usize = 200;

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

fn memory() -> Store {
    Store {
        objects: Arc::new(MemoryObjects::new()),
        table: Arc::new(MemoryTable::new()),
        layout: TableLayout { shards: 1 },
        recent: RecentTraces::default(),
    }
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(work)
}

/// Holds calls until they are let through.
#[derive(Default)]
struct Gate {
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
    /// Objects and ranges that were read.
    gets: Mutex<Vec<(String, Range<u64>)>>,
}

impl Gate {
    async fn pass(&self) {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().expect("a lock").push(sender);
        receiver.await.expect("the gate is open some time");
    }

    /// Lets all through that wait; tells whether any did.
    fn open(&self) -> bool {
        let waiting = std::mem::take(&mut *self.waiting.lock().expect("a lock"));
        let is_any = !waiting.is_empty();
        for sender in waiting {
            sender.send(()).expect("it waits");
        }
        is_any
    }
}

struct Gated<T: ?Sized> {
    inner: Arc<T>,
    gate: Arc<Gate>,
}

#[async_trait::async_trait]
impl Object for Gated<dyn Object> {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<PutOutcome> {
        self.inner.put_if_absent(key, body).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        self.gate.pass().await;
        self.gate.gets.lock().expect("a lock").push((key.to_owned(), range.clone()));
        self.inner.get_range(key, range).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.gate.pass().await;
        self.gate.gets.lock().expect("a lock").push((key.to_owned(), 0..u64::MAX));
        self.inner.get(key).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>> {
        self.gate.pass().await;
        self.inner.head(key).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>> {
        self.gate.pass().await;
        self.inner.list(prefix, after, limit).await
    }
}

#[async_trait::async_trait]
impl KeyValue for Gated<dyn KeyValue> {
    async fn get(&self, key: &Key) -> Result<Option<Item>> {
        self.gate.pass().await;
        self.inner.get(key).await
    }

    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>> {
        self.gate.pass().await;
        self.inner.batch_get(keys).await
    }

    async fn range(
        &self,
        partition: &str,
        range: SortRange<'_>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page> {
        self.gate.pass().await;
        self.inner.range(partition, range, after, limit).await
    }

    async fn put(&self, key: Key, item: NewItem, condition: Condition) -> Result<Outcome> {
        self.inner.put(key, item, condition).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<Outcome> {
        self.inner.transact(writes).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }
}

/// What a lookup took.
#[derive(Debug)]
struct Lookup {
    /// Spans by their numbers.
    spans: Vec<u64>,
    /// Rounds of calls, each of which needs the answers of the one before.
    n_rounds: usize,
    usage: Usage,
    gets: Vec<(String, Range<u64>)>,
}

impl Lookup {
    /// Reads of objects by the day of these.
    fn gets_by_day(&self) -> BTreeMap<&str, usize> {
        let mut by_day = BTreeMap::new();
        for (key, _) in &self.gets {
            let day = key.split('/').find(|part| part.starts_with("date=")).expect("a day");
            *by_day.entry(day).or_default() += 1;
        }
        by_day
    }

    fn longest_get(&self) -> u64 {
        self.gets.iter().map(|(_, range)| range.end - range.start).max().unwrap_or(0)
    }
}

/// Looks for a trace in a process that remembers what `recent` does.
async fn look(store: &Store, recent: &RecentTraces, id: TraceId, now_s: u64) -> Lookup {
    let gate = Arc::new(Gate::default());
    let calls = Arc::new(Calls::default());
    let gated = Store {
        objects: Arc::new(Gated { inner: Arc::clone(&store.objects), gate: Arc::clone(&gate) }),
        table: Arc::new(Gated { inner: Arc::clone(&store.table), gate: Arc::clone(&gate) }),
        layout: store.layout,
        recent: recent.clone(),
    };
    let metered = gated.metered(&calls);
    let question = tokio::spawn(async move {
        read::traces_by_id(&metered, &tenant(), &[id], now_s, &Limits::default()).await
    });
    let mut n_rounds = 0;
    loop {
        for _ in 0..TURNS {
            yield_now().await;
        }
        if question.is_finished() {
            break;
        }
        assert!(gate.open(), "a question that waits for no store");
        n_rounds += 1;
    }
    let set = question.await.expect("no panic").expect("memory");
    let of_trace = |trace| set.spans(trace).map(|span| u64::from_be_bytes(span.fields().span_id.0));
    let spans = set.traces.iter().flat_map(of_trace).collect();
    let gets = gate.gets.lock().expect("a lock").clone();
    Lookup { spans, n_rounds, usage: calls.usage(), gets }
}

/// As [`look`], in a process that remembers nothing.
async fn look_cold(store: &Store, id: TraceId, now_s: u64) -> Lookup {
    look(store, &RecentTraces::default(), id, now_s).await
}

fn trace_id(number: u64) -> TraceId {
    TraceId(u128::from(number + 1).to_be_bytes())
}

fn number_of(day: u64, hour: u64, trace: u64) -> u64 {
    let first_hour = if hour == HOURS[2] { HOURS[1] } else { hour };
    (day * 24 + first_hour) * TRACES_OF_HOUR + trace
}

/// Stores the spans of a request: traces with the times of their spans, seconds since the epoch.
async fn send(writer: &Writer, spans: &[(TraceId, u64, u64)], now_s: u64) {
    let mut columns = SpanColumns::default();
    for &(trace_id, span, start_s) in spans {
        let origin = columns.origins.intern_resource("s", r#"{"service.name":"s"}"#, "");
        let fields = SpanFields {
            trace_id,
            span_id: SpanId((span + 1).to_be_bytes()),
            name: "GET /",
            start_ns: start_s as i64 * 1_000_000_000,
            ..SpanFields::default()
        };
        columns.push_span(&fields, origin);
    }
    let name = format!("{spans:?}");
    let content = content_hash(&tenant(), Signal::Traces, name.as_bytes());
    let encoded = storage::block::spans::encode(&columns);
    writer.spans(&tenant(), content, encoded, now_s, &Arc::default()).await.expect("memory");
}

/// Compaction as it ticks each minute, with files of about such a length.
async fn tick(store: &Store, target_bytes: u64, minutes: Range<u64>, from_s: u64) {
    let rules = Rules { target_bytes, ..Rules::default() };
    let settings = Settings { rules, ..Settings::default() };
    for minute in minutes {
        let now_s = from_s + minute * 60;
        let report = compact::run(store, &settings, "test", &|| now_s, &Arc::default()).await;
        assert_eq!(report.expect("memory").failed, 0);
    }
}

/// The spans of an hour, with those that join a trace of another time.
async fn send_hour(writer: &Writer, day: u64, hour: u64) {
    let hour_s = (FIRST_DAY + day) * DAY_S + hour * 3600;
    let span = u64::from(hour == HOURS[2]);
    for traces in (0..TRACES_OF_HOUR).collect::<Vec<_>>().chunks(710) {
        let of_trace = |&trace: &u64| (trace_id(number_of(day, hour, trace)), span, hour_s + trace);
        let spans: Vec<_> = traces.iter().map(of_trace).collect();
        send(writer, &spans, hour_s).await;
    }
}

/// Days that are over and merged, from `first`; and the time then.
async fn store_days(store: &Store, days: Range<u64>) -> u64 {
    let writer = Writer::new(store.clone());
    let mut end_s = 0;
    for day in days {
        for hour in HOURS {
            send_hour(&writer, day, hour).await;
        }
        if day + 1 < DAYS {
            // One trace goes on over midnight, another comes back each day.
            let midnight_s = (FIRST_DAY + day + 1) * DAY_S;
            let over = trace_id(number_of(day, 23, 0));
            send(&writer, &[(over, 100, midnight_s - 5), (over, 101, midnight_s + 5)], midnight_s).await;
        }
        end_s = (FIRST_DAY + day + 1) * DAY_S;
        tick(store, TARGET_BYTES, 0..75, end_s).await;
    }
    end_s + 75 * 60
}

fn assert_cheap(lookup: &Lookup, max_gets_of_day: usize) {
    assert!(lookup.n_rounds <= 2, "{} rounds", lookup.n_rounds);
    for (day, n_gets) in lookup.gets_by_day() {
        assert!(n_gets <= max_gets_of_day, "{n_gets} reads of {day}");
    }
    assert_eq!(lookup.usage.object_gets, lookup.gets.len() as u64);
}

#[test]
fn a_month_takes_two_rounds_and_a_read_a_day() {
    wait(async {
        let store = memory();
        let now_s = store_days(&store, 0..DAYS).await;
        let windows = read::windows(&store, &tenant()).await.expect("memory");
        assert_eq!(windows.len() as u64, DAYS, "{windows:?}");
        assert!(
            windows.iter().all(|day| day.objects.len() == 2),
            "a day is a run of several files: {windows:?}"
        );
        assert!(windows.iter().all(|day| day.index_bytes < 1_000), "whose items list no traces: {windows:?}");
        let largest_unit = windows.iter().map(|day| day.bytes / 2).max().expect("days");
        let n_items: usize = windows.iter().map(|day| day.objects.len()).sum();

        let mut lookups = Vec::new();
        for day in [0, 14, 29] {
            for trace in [1, 1_400, 2_839] {
                let lookup = look_cold(&store, trace_id(number_of(day, 9, trace)), now_s).await;
                assert_eq!(lookup.spans, [1, 2], "day {day}");
                lookups.push(lookup);
            }
        }
        let unknown = look_cold(&store, trace_id(u64::MAX / 2), now_s).await;
        assert!(unknown.spans.is_empty());
        assert!(unknown.gets.len() as u64 >= DAYS / 2, "most days have a unit where it might be");
        lookups.push(unknown);
        let over = look_cold(&store, trace_id(number_of(13, 23, 0)), now_s).await;
        assert_eq!(over.spans, [1, 2, 101, 102], "over midnight");
        lookups.push(over);
        for lookup in &lookups {
            assert_cheap(lookup, 1);
            assert!(lookup.gets.len() as u64 <= DAYS, "{}", lookup.gets.len());
            assert!(lookup.longest_get() <= largest_unit, "{} bytes", lookup.longest_get());
            // A page for each window that is expected, and the list of windows.
            assert_eq!(lookup.usage.table_reads, 1 + 1 + 29 + 33);
            assert!(lookup.usage.table_read_units <= 1 + 1 + 29 + 33 + n_items as u64);
        }
    });
}

#[test]
fn who_asked_before_reads_only_windows_that_are_there() {
    wait(async {
        let store = memory();
        let now_s = store_days(&store, 0..2).await;
        let recent = RecentTraces::default();
        let id = trace_id(number_of(1, 9, 7));
        assert_eq!(look(&store, &recent, id, now_s).await.n_rounds, 2);
        let again = look(&store, &recent, trace_id(number_of(0, 9, 7)), now_s + 60).await;
        assert_eq!((again.spans, again.n_rounds), (vec![1, 2], 2));
        // The list, its two days, the hours that have begun, and the day of now.
        assert!(again.usage.table_reads <= 6, "{}", again.usage.table_reads);
        let known = look(&store, &recent, id, now_s).await;
        assert_eq!((known.spans, known.n_rounds), (vec![1, 2], 1), "units that were read are kept");
    });
}

#[test]
fn the_newest_hours_are_sieved() {
    wait(async {
        let store = memory();
        store_days(&store, 0..2).await;
        let writer = Writer::new(store.clone());
        let day_s = (FIRST_DAY + 2) * DAY_S;
        for hour in [1, 3, 5, 7, 9] {
            send_hour(&writer, 2, hour).await;
            // In some hours more traces than an item lists.
            let many = if hour < 6 { 0..5_000 } else { 0..0 };
            let spans: Vec<_> =
                many.map(|n| (trace_id(1 << 40 | hour << 20 | n), n, day_s + hour * 3600)).collect();
            if !spans.is_empty() {
                send(&writer, &spans, day_s + hour * 3600).await;
            }
            tick(&store, 1 << 20, 0..20, day_s + (hour + 1) * 3600).await;
        }
        let now_s = day_s + 11 * 3600;
        send_hour(&writer, 2, 11).await;
        let windows = read::windows(&store, &tenant()).await.expect("memory");
        let of_hours = windows.iter().filter(|window| matches!(window.window, Window::Hour(_)));
        let levels: Vec<u8> = of_hours.map(|window| window.level).collect();
        assert_eq!(levels, [1, 1, 1, 1, 1, 0]);
        let mut n_gets = 0;
        for stranger in 0..40 {
            let lookup = look_cold(&store, trace_id(u64::MAX / 2 + stranger), now_s).await;
            assert!(lookup.spans.is_empty() && lookup.n_rounds <= 2);
            n_gets += lookup.gets.len();
        }
        // Nearly one for each of two days, and one for each of five hours once in 64 times.
        let n_expected = 40 * 2 + 40 * 5 / 64;
        assert!((40 * 3 / 2..=n_expected + 8).contains(&n_gets), "{n_gets}, about {n_expected} expected");
        for hour in [1, 5, 9, 11] {
            let lookup = look_cold(&store, trace_id(number_of(2, hour, 700)), now_s).await;
            assert_eq!((lookup.spans, lookup.n_rounds), (vec![1], 2), "hour {hour}");
        }
    });
}

#[test]
fn what_comes_late_is_found_and_soon_in_two_rounds() {
    wait(async {
        let store = memory();
        let now_s = store_days(&store, 0..3).await;
        let writer = Writer::new(store.clone());
        let (early, late) = (trace_id(number_of(0, 9, 3)), trace_id(u64::MAX / 3));
        let hour_s = FIRST_DAY * DAY_S + 9 * 3600;
        let recent = RecentTraces::default();
        look(&store, &recent, late, now_s).await;
        send(&writer, &[(early, 200, hour_s), (late, 201, hour_s)], now_s).await;

        let cold = look_cold(&store, late, now_s).await;
        assert_eq!((cold.spans, cold.n_rounds), (vec![202], 3), "nobody expects an hour of long ago");
        let whole = look(&store, &recent, early, now_s).await;
        assert_eq!(whole.spans.len(), 3);
        assert_eq!(look(&store, &recent, late, now_s).await.n_rounds, 2, "it is remembered");

        tick(&store, TARGET_BYTES, 0..100, now_s).await;
        let now_s = now_s + 6000;
        for (id, n_spans) in [(early, 3), (late, 1)] {
            let lookup = look_cold(&store, id, now_s).await;
            assert_eq!((lookup.spans.len(), lookup.n_rounds), (n_spans, 2));
            // The run of what came late is read for what it has.
            assert_cheap(&lookup, 2);
        }
        assert_cheap(&look_cold(&store, trace_id(u64::MAX / 2), now_s).await, 1);
    });
}

#[test]
fn older_days_than_are_expected_take_a_round_more_once() {
    wait(async {
        let store = memory();
        store_days(&store, 0..2).await;
        let now_s = (FIRST_DAY + 400) * DAY_S;
        let recent = RecentTraces::default();
        let id = |trace| trace_id(number_of(0, 9, trace));
        let first = look(&store, &recent, id(3), now_s).await;
        assert_eq!((first.spans, first.n_rounds), (vec![1, 2], 3));
        let second = look(&store, &recent, id(4), now_s).await;
        assert_eq!((second.spans, second.n_rounds), (vec![1, 2], 2));
    });
}
