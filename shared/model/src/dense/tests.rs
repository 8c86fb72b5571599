//! Attributes with columns of their own, apart and together.

use proptest::prelude::*;

use super::*;
use crate::columns::Value;
use crate::transfer::Pick;

const KEYS: [&str; 6] = ["a", "b", "B", "c.d", "c_d", "e"];
const TEXTS: [&str; 4] = ["", "x", "[1]", "longer than a word"];

/// Rows of attributes: keys and numbers of values.
fn any_rows() -> impl Strategy<Value = Vec<Vec<(usize, usize)>>> {
    proptest::collection::vec(proptest::collection::vec((0..KEYS.len(), 0..9_usize), 0..6), 0..40)
}

fn value(number: usize) -> Value<'static> {
    match number {
        0..4 => Value::String(TEXTS[number]),
        4 => Value::Json("[1]"),
        5 => Value::Int(-1),
        6 => Value::Double(f64::NAN),
        7 => Value::Bool(true),
        _ => Value::Empty,
    }
}

fn attributes(rows: &[Vec<(usize, usize)>]) -> AttributeColumns {
    let mut attributes = AttributeColumns::default();
    for row in rows {
        for &(key, number) in row {
            attributes.push(KEYS[key], value(number));
        }
        attributes.close_row();
    }
    attributes
}

fn assert_same(a: &AttributeColumns, b: &AttributeColumns) {
    assert_eq!(a.ends.len(), b.ends.len());
    for row in 0..a.ends.len() {
        assert!(a.is_same(row, b, row), "row {row}");
    }
}

proptest! {
    #[test]
    fn what_is_split_comes_back(rows in any_rows(), others in any_rows()) {
        let whole = attributes(&rows);
        let dense = Choice::of(&whole).choose(&[]);
        let mut rest = whole.clone();
        let apart = DenseRows::split(&mut rest, &dense);
        let in_columns = apart.by_column();
        prop_assert!(in_columns.iter().all(|(is_there, _)| is_there.len() == rows.len()));
        apart.join(&dense, &mut rest).expect("of one batch");
        assert_same(&rest, &whole);

        // In a file that has columns for other attributes too.
        let mut choice = Choice::of(&attributes(&others));
        choice.count_as(&dense, rows.len() as u64);
        let wider = choice.choose(&KEYS.map(str::to_owned));
        let mut rest = whole.clone();
        let apart = DenseRows::split(&mut rest, &dense);
        prop_assert_eq!(dense.are_in(&wider), dense.keys().iter().all(|one| wider.keys().contains(one)));
        if dense.are_in(&wider) {
            apart.for_columns(&dense, &wider).expect("has all").join(&wider, &mut rest).expect("the same");
            assert_same(&rest, &whole);
        }
    }

    #[test]
    fn rows_arrive_as_they_were(rows in any_rows(), picks in proptest::collection::vec(any::<prop::sample::Index>(), 1..20)) {
        prop_assume!(!rows.is_empty());
        let mut rest = attributes(&rows);
        let dense = Choice::of(&rest).choose(&[]);
        let from = DenseRows::split(&mut rest, &dense);
        let (mut into, batches) = (DenseRows::new(&dense), [&from, &from.clone()]);
        let mut transfers = [DenseTransfer::default(), DenseTransfer::default()];
        for round in 0..2 {
            let row_of = |pick: &prop::sample::Index| pick.index(rows.len()) as u32;
            let picks: Vec<Pick> =
                picks.iter().zip([0, 1, 1].into_iter().cycle()).map(|(pick, batch)| Pick { batch, row: row_of(pick) }).collect();
            for picks in picks.chunks(7) {
                into.extend_from(&batches, &Picks::of(picks, 2), &mut transfers);
            }
            for (at, pick) in picks.iter().enumerate() {
                prop_assert!(into.is_same(at, &from, pick.row as usize), "round {}, row {}", round, at);
            }
            prop_assert!(into.memory_bytes() >= into.len() * 8);
            into.clear();
        }
    }
}

#[test]
fn an_attribute_has_a_column_if_enough_rows_have_it() {
    let mut rows = vec![vec![(0, 5)]; 63];
    rows.push(vec![(1, 5), (3, 1), (3, 1), (3, 5)]);
    let choice = || Choice::of(&attributes(&rows));
    let keys = |dense: &Dense| dense.keys().iter().map(|one| (one.key.clone(), one.kind)).collect::<Vec<_>>();
    let of = |key: &str, kind| (key.to_owned(), kind);
    assert_eq!(
        keys(&choice().choose(&[])),
        [of("a", ValueKind::Int), of("c.d", ValueKind::String)],
        "the kind that most values have"
    );
    let wanted = choice().choose(&["b".to_owned(), "none has it".to_owned()]);
    assert_eq!(keys(&wanted).len(), 3, "one row is enough for what is wanted");
    let mut twice = Choice::default();
    twice.count(&attributes(&[vec![(3, 1), (4, 1), (1, 1), (2, 1)], vec![(3, 1), (2, 1)]]));
    assert_eq!(
        keys(&twice.choose(&[])),
        [of("B", ValueKind::String), of("c.d", ValueKind::String)],
        "keys of one name: the one that more rows have"
    );
    assert_eq!(Choice::default().choose(&[]), Dense::default());
    let mut long = AttributeColumns::default();
    long.push(&"k".repeat(1000), Value::Int(1));
    long.close_row();
    assert_eq!(Choice::of(&long).choose(&["k".repeat(1000)]), Dense::default(), "each unit would name it");
}

#[test]
fn orders_that_do_not_fit_are_refused() {
    let column = || {
        let mut texts = DictColumn::default();
        texts.push("x");
        Column::Texts(texts)
    };
    let rows = |letters: &str| {
        let mut order = DictColumn::default();
        order.push(letters);
        DenseRows::of_columns(order, vec![column()])
    };
    assert!(rows("a").is_some() && rows(".a").is_some());
    assert!(rows("").is_none(), "a value is left over");
    assert!(rows("b").is_none(), "no such column");
    assert!(rows("aa").is_none(), "one value for two");
    let one = DenseKey { key: "k".to_owned(), kind: ValueKind::String };
    let dense = Dense::new(vec![one.clone()]).expect("one key");
    let mut rest = attributes(&[vec![]]);
    assert!(rows(".a").expect("fits").join(&dense, &mut rest).is_none(), "no other attribute is there");
    assert!(Dense::new(vec![one.clone(), one]).is_none(), "a key twice");
}
