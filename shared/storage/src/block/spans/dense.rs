//! Attributes with columns of their own: what merged files have behind the columns of all files.
//!
//! | column | type | |
//! |---|---|---|
//! | `attributes_order` | text | per attribute of the span a letter of `a` to `z`, `A` to `Z` and `0` to `9`, in this order for the columns of their own, or a dot for one in `attributes`; dots at the end are left out; null for nothing |
//! | [`attribute_…`](DenseKey::column_name) | text, JSON, int64, double or boolean | the value; null where the span has none |
//!
//! Which attributes these are, a unit says in its head; for others than our own readers, the file's metadata has
//! `spandrel.dense_attributes`: JSON of column names and keys.

use model::attribute;
use model::columns::ValueKind;
use model::dense::{Column, Dense, DenseKey, DenseRows};
use model::dictionary::DictColumn;

use super::column;
use crate::block::columns::{nullable, optional, read_nullable};
use crate::block::parquet::file::{Logical, Node, Occurs};
use crate::block::parquet::read::Pages;
use crate::block::parquet::thrift::{read_varint, take, write_varint};
use crate::block::parquet::write::{Chunk, ChunkWriter};
use crate::block::parquet::{Invalid, Physical};
use crate::index::{read_section, write_section};

/// The column with the order of attributes.
pub(super) const ORDER: usize = column::COUNT;
/// The first attribute's column.
pub(super) const FIRST: usize = ORDER + 1;
/// What the metadata calls the keys.
pub(super) const METADATA_KEY: &str = "spandrel.dense_attributes";

/// Columns of a unit with these attributes.
pub(super) fn n_columns(dense: &Dense) -> usize {
    match dense.keys().len() {
        0 => column::COUNT,
        n => FIRST + n,
    }
}

const KINDS: [ValueKind; 5] =
    [ValueKind::String, ValueKind::Int, ValueKind::Double, ValueKind::Bool, ValueKind::Json];

/// Appends the list of attributes.
pub(super) fn write_keys(out: &mut Vec<u8>, dense: &Dense) {
    write_varint(out, dense.keys().len() as u64);
    for one in dense.keys() {
        write_section(out, one.key.as_bytes());
        out.push(one.kind as u8);
    }
}

/// Takes the list off the front of `bytes`.
pub(super) fn read_keys(bytes: &mut &[u8]) -> Result<Dense, Invalid> {
    let n = read_varint(bytes)? as usize;
    if n > bytes.len() {
        return Err(Invalid("data is cut off"));
    }
    let mut keys = Vec::with_capacity(n);
    for _ in 0..n {
        let key = std::str::from_utf8(read_section(bytes)?).map_err(|_| Invalid("text is not UTF-8"))?;
        let kind = take(bytes, 1)?[0];
        let kind = KINDS.into_iter().find(|&other| other as u8 == kind);
        keys.push(DenseKey { key: key.to_owned(), kind: kind.ok_or(Invalid("kind is unknown"))? });
    }
    Dense::new(keys).ok_or(Invalid("attributes are too many or come twice"))
}

/// The names of the columns.
pub(super) fn names(dense: &Dense) -> Vec<String> {
    dense.keys().iter().map(DenseKey::column_name).collect()
}

/// Keys by column name, as JSON.
pub(super) fn metadata(dense: &Dense) -> String {
    let entry = |one: &DenseKey| (one.column_name(), attribute::AnyValue::String(one.key.clone()));
    let mut json = String::new();
    attribute::write_map(&mut json, &dense.keys().iter().map(entry).collect::<Vec<_>>());
    json
}

/// The nodes of the columns, by their [`names`].
pub(super) fn nodes<'a>(dense: &Dense, names: &'a [String]) -> Vec<Node<'a>> {
    let columns = dense.keys().iter().zip(names).map(|(one, name)| node(one, name));
    (!names.is_empty()).then_some(ORDER_NODE).into_iter().chain(columns).collect()
}

/// The column with the order of attributes.
pub(in crate::block) const ORDER_NODE: Node<'static> = Node::text("attributes_order", Occurs::Optional);

/// The column of an attribute, by its name.
pub(in crate::block) fn node<'a>(one: &DenseKey, name: &'a str) -> Node<'a> {
    let optional = |logical, physical| Node::leaf(name, Occurs::Optional, logical, physical);
    match one.kind {
        ValueKind::Int => optional(Logical::None, Physical::Int64),
        ValueKind::Double => optional(Logical::None, Physical::Double),
        ValueKind::Bool => optional(Logical::None, Physical::Boolean),
        ValueKind::Json => Node::json(name),
        ValueKind::String | ValueKind::Empty => Node::text(name, Occurs::Optional),
    }
}

/// Appends the chunks of the columns.
pub(super) fn write(w: &mut ChunkWriter, rows: &DenseRows, dense: &Dense, chunks: &mut Vec<Chunk>) {
    if dense.keys().is_empty() {
        return;
    }
    chunks.push(nullable(w, rows.order()));
    let columns = rows.by_column().into_iter().zip(dense.keys()).zip(rows.texts());
    for (((is_there, values), one), texts) in columns {
        let levels = optional(&is_there);
        chunks.push(match one.kind {
            ValueKind::Int => {
                w.repeated_i64(levels, &values.into_iter().map(|bits| bits as i64).collect::<Vec<_>>())
            }
            ValueKind::Double => {
                w.doubles(levels, &values.into_iter().map(f64::from_bits).collect::<Vec<_>>())
            }
            ValueKind::Bool => w.bools(levels, &values.into_iter().map(|bit| bit != 0).collect::<Vec<_>>()),
            ValueKind::String | ValueKind::Json | ValueKind::Empty => {
                w.strings(levels, texts, &values.into_iter().map(|place| place as u32).collect::<Vec<_>>())
            }
        });
    }
}

/// Reads the columns; `read` gives the pages of one.
pub(super) fn read(
    dense: &Dense,
    read: &dyn Fn(usize) -> Result<Pages, Invalid>,
) -> Result<DenseRows, Invalid> {
    let order = read_nullable(&read(ORDER)?, 1)?;
    let mut columns = Vec::with_capacity(dense.keys().len());
    for (at, one) in dense.keys().iter().enumerate() {
        columns.push(values(&read(FIRST + at)?, one.kind)?);
    }
    DenseRows::of_columns(order, columns).ok_or(Invalid("columns of attributes are not in their order"))
}

/// The values of a column's pages.
pub(super) fn values(pages: &Pages, kind: ValueKind) -> Result<Column, Invalid> {
    Ok(match kind {
        ValueKind::Int => Column::Ints(pages.i64s()?),
        ValueKind::Double => Column::Doubles(pages.doubles()?),
        ValueKind::Bool => Column::Bools(pages.bools()?),
        ValueKind::String | ValueKind::Json | ValueKind::Empty => {
            let (dictionary, rows) = pages.strings_as_they_are()?;
            Column::Texts(DictColumn { dictionary, rows })
        }
    })
}
