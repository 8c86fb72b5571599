//! Spans and log records of a file through the `parquet` and `arrow` crates.
//!
//! [`spans::decode`](super::spans::decode) and [`logs::decode`](super::logs::decode) read what this crate wrote, fast and nothing else. This reads the same
//! columns from any Parquet file that has them, whoever wrote it and in whatever encoding, and shares no code with the
//! writer: it tells whether a file is what other engines will take it for.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array,
    ListArray, MapArray, RecordBatch, StringArray, StructArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use bytes::Bytes;
use model::attribute::{self, AnyValue};
use model::columns::{AttributeColumns, Value};
use model::spans::{EventView, LinkView, SpanFields};
use model::{SpanColumns, SpanId, TraceId};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::LogicalType;
use parquet::file::metadata::KeyValue;
use parquet::file::reader::{FileReader as _, SerializedFileReader};

mod logs;

pub use logs::decode_logs;

/// Why a file is not one of spans or log records.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReferenceError {
    /// The `parquet` crate refuses it.
    #[error("not readable as parquet")]
    Parquet(#[source] Arc<parquet::errors::ParquetError>),
    /// A batch does not decode.
    #[error("not readable as arrow")]
    Arrow(#[source] Arc<arrow::error::ArrowError>),
    /// A column is missing or has another type.
    #[error("column {0} is missing or has another type")]
    Column(String),
}

/// The spans of a whole file.
///
/// # Errors
/// The file is not Parquet, or lacks a column.
pub fn decode(file: Bytes) -> Result<SpanColumns, ReferenceError> {
    let mut columns = SpanColumns::default();
    let mut distances = Vec::new();
    let dense = DenseColumns::of(&file)?;
    for batch in batches(file)? {
        append(&mut columns, &batch?, &dense, &mut distances)?;
    }
    for (row, distance) in distances {
        let parent = i64::try_from(row).ok().and_then(|row| usize::try_from(row - i64::from(distance)).ok());
        let parent = parent.and_then(|parent| columns.span_id.get(parent)).copied();
        columns.parent_span_id[row] =
            parent.ok_or_else(|| ReferenceError::Column("parent_distance".to_owned()))?;
    }
    Ok(columns)
}

/// Which attributes have columns of their own.
#[derive(Default)]
struct DenseColumns {
    /// Names of the columns, and keys.
    keys: Vec<(String, String)>,
    /// The names of those of JSON, which to Arrow is text.
    json: HashSet<String>,
}

impl DenseColumns {
    fn of(file: &Bytes) -> Result<Self, ReferenceError> {
        let reader = SerializedFileReader::new(file.clone());
        let reader = reader.map_err(|err| ReferenceError::Parquet(Arc::new(err)))?;
        let metadata = reader.metadata().file_metadata();
        let of_key = |entry: &&KeyValue| entry.key == "spandrel.dense_attributes";
        let keys = metadata.key_value_metadata().and_then(|all| all.iter().find(of_key));
        let keys = keys.and_then(|entry| entry.value.as_deref()).unwrap_or("{}");
        let lacking = || ReferenceError::Column("spandrel.dense_attributes".to_owned());
        let mut dense = Self::default();
        for (name, key) in attribute::parse_map(keys).map_err(|_| lacking())? {
            let AnyValue::String(key) = key else { return Err(lacking()) };
            dense.keys.push((name, key));
        }
        for field in metadata.schema().get_fields().iter().map(|field| field.get_basic_info()) {
            if field.logical_type_ref() == Some(&LogicalType::Json) {
                dense.json.insert(field.name().to_owned());
            }
        }
        Ok(dense)
    }
}

fn batches(file: Bytes) -> Result<impl Iterator<Item = Result<RecordBatch, ReferenceError>>, ReferenceError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|err| ReferenceError::Parquet(Arc::new(err)))?;
    Ok(reader.map(|batch| batch.map_err(|err| ReferenceError::Arrow(Arc::new(err)))))
}

fn typed<'a, T: 'static>(column: Option<&'a ArrayRef>, name: &str) -> Result<&'a T, ReferenceError> {
    let typed = column.and_then(|array| array.as_any().downcast_ref::<T>());
    typed.ok_or_else(|| ReferenceError::Column(name.to_owned()))
}

fn text(array: &StringArray, row: usize) -> &str {
    if array.is_null(row) { "" } else { array.value(row) }
}

fn trace_id(array: &FixedSizeBinaryArray, row: usize) -> TraceId {
    if array.is_null(row) { TraceId::NONE } else { TraceId(array.value(row).try_into().unwrap_or_default()) }
}

fn span_id(array: &FixedSizeBinaryArray, row: usize) -> SpanId {
    if array.is_null(row) { SpanId::NONE } else { SpanId(array.value(row).try_into().unwrap_or_default()) }
}

fn count(array: &Int64Array, row: usize) -> u32 {
    u32::try_from(array.value(row)).unwrap_or(u32::MAX)
}

/// Appends a batch; where parents are told by their distance, notes the row and the distance.
fn append(
    columns: &mut SpanColumns,
    batch: &RecordBatch,
    dense: &DenseColumns,
    distances: &mut Vec<(usize, i32)>,
) -> Result<(), ReferenceError> {
    let column = |name: &'static str| batch.column_by_name(name);
    let texts = |name: &'static str| typed::<StringArray>(column(name), name);
    let numbers = |name: &'static str| typed::<Int64Array>(column(name), name);
    let small = |name: &'static str| typed::<Int32Array>(column(name), name);
    let ids = |name: &'static str| typed::<FixedSizeBinaryArray>(column(name), name);

    let start: &TimestampNanosecondArray = typed(column("start_time"), "start_time")?;
    let attributes = Attributes::of(typed::<MapArray>(column("attributes"), "attributes")?)?;
    let dense = Dense::of(batch, dense)?;
    let events = Events::of(typed::<ListArray>(column("events"), "events")?)?;
    let links = Links::of(typed::<ListArray>(column("links"), "links")?)?;
    let (trace_ids, span_ids, parents) = (ids("trace_id")?, ids("span_id")?, ids("parent_span_id")?);
    let distance = small("parent_distance")?;
    let (duration, kind, status) = (numbers("duration_ns")?, small("kind")?, small("status_code")?);
    let (name, message, state) = (texts("name")?, texts("status_message")?, texts("trace_state")?);
    let (service, resource, resource_meta) =
        (texts("service_name")?, texts("resource_attributes")?, texts("resource_meta")?);
    let (scope_name, scope_version, scope_meta) =
        (texts("scope_name")?, texts("scope_version")?, texts("scope_meta")?);
    let (flags, dropped_attributes) = (numbers("flags")?, numbers("dropped_attributes_count")?);
    let (dropped_events, dropped_links) = (numbers("dropped_events_count")?, numbers("dropped_links_count")?);

    for row in 0..batch.num_rows() {
        if !distance.is_null(row) {
            distances.push((columns.len(), distance.value(row)));
        }
        dense.push(&attributes, &mut columns.attributes, row)?;
        events.push(columns, row);
        links.push(columns, row);
        let origin = columns.origins.intern_resource(
            text(service, row),
            text(resource, row),
            text(resource_meta, row),
        );
        let scope = (text(scope_name, row), text(scope_version, row), text(scope_meta, row));
        let origin = columns.origins.intern_scope(origin, scope.0, scope.1, scope.2);
        let span = SpanFields {
            trace_id: trace_id(trace_ids, row),
            span_id: span_id(span_ids, row),
            parent_span_id: span_id(parents, row),
            trace_state: text(state, row),
            flags: count(flags, row),
            name: text(name, row),
            kind: kind.value(row),
            start_ns: start.value(row),
            duration_ns: duration.value(row),
            status_code: status.value(row),
            status_message: text(message, row),
            dropped_attributes_count: count(dropped_attributes, row),
            dropped_events_count: count(dropped_events, row),
            dropped_links_count: count(dropped_links, row),
        };
        columns.push_span(&span, origin);
    }
    Ok(())
}

struct Attributes<'a> {
    map: &'a MapArray,
    key: &'a StringArray,
    string: &'a StringArray,
    int: &'a Int64Array,
    double: &'a Float64Array,
    bool: &'a BooleanArray,
    json: &'a StringArray,
}

impl<'a> Attributes<'a> {
    fn of(map: &'a MapArray) -> Result<Self, ReferenceError> {
        let value: &StructArray = typed(Some(map.values()), "attributes.value")?;
        Ok(Self {
            map,
            key: typed(Some(map.keys()), "attributes.key")?,
            string: typed(value.column_by_name("string"), "attributes.string")?,
            int: typed(value.column_by_name("int"), "attributes.int")?,
            double: typed(value.column_by_name("double"), "attributes.double")?,
            bool: typed(value.column_by_name("bool"), "attributes.bool")?,
            json: typed(value.column_by_name("json"), "attributes.json")?,
        })
    }

    fn entries(&self, row: usize) -> Range<usize> {
        let offsets = self.map.value_offsets();
        offsets[row] as usize..offsets[row + 1] as usize
    }

    fn push(&self, to: &mut AttributeColumns, row: usize) -> Result<(), ReferenceError> {
        self.entries(row).try_for_each(|entry| self.push_entry(to, entry))
    }

    fn push_entry(&self, to: &mut AttributeColumns, entry: usize) -> Result<(), ReferenceError> {
        let present = [
            self.string.is_valid(entry).then(|| Value::String(self.string.value(entry))),
            self.int.is_valid(entry).then(|| Value::Int(self.int.value(entry))),
            self.double.is_valid(entry).then(|| Value::Double(self.double.value(entry))),
            self.bool.is_valid(entry).then(|| Value::Bool(self.bool.value(entry))),
            self.json.is_valid(entry).then(|| Value::Json(self.json.value(entry))),
        ];
        let mut values = present.into_iter().flatten();
        let value = values.next().unwrap_or(Value::Empty);
        if values.next().is_some() {
            return Err(ReferenceError::Column("attributes.value with two values".to_owned()));
        }
        to.push(self.key.value(entry), value);
        Ok(())
    }
}

/// Attributes with columns of their own.
struct Dense<'a> {
    order: Option<&'a StringArray>,
    /// Keys, columns, and whether their texts are JSON.
    columns: Vec<(String, &'a ArrayRef, bool)>,
}

impl<'a> Dense<'a> {
    fn of(batch: &'a RecordBatch, dense: &DenseColumns) -> Result<Self, ReferenceError> {
        let order = batch.column_by_name("attributes_order");
        let order = order.map(|order| typed::<StringArray>(Some(order), "attributes_order")).transpose()?;
        let column = |(name, key): &(String, String)| {
            let column = batch.column_by_name(name).ok_or_else(|| ReferenceError::Column(name.clone()))?;
            Ok((key.clone(), column, dense.json.contains(name)))
        };
        Ok(Self { order, columns: dense.keys.iter().map(column).collect::<Result<_, ReferenceError>>()? })
    }

    /// Appends the attributes of a row, those of the map among them.
    fn push(
        &self,
        map: &Attributes<'_>,
        to: &mut AttributeColumns,
        row: usize,
    ) -> Result<(), ReferenceError> {
        let mut others = map.entries(row);
        for letter in self.order.map_or("", |order| text(order, row)).bytes() {
            if letter == b'.' {
                let entry = others.next().ok_or_else(|| ReferenceError::Column("attributes".to_owned()))?;
                map.push_entry(to, entry)?;
                continue;
            }
            let place = ('a'..='z').chain('A'..='Z').chain('0'..='9').position(|other| other as u8 == letter);
            let column = place.and_then(|place| self.columns.get(place));
            let (key, array, is_json) =
                column.ok_or_else(|| ReferenceError::Column("attributes_order".to_owned()))?;
            let value =
                typed_value(array, *is_json, row).ok_or_else(|| ReferenceError::Column(key.clone()))?;
            to.push(key, value);
        }
        others.try_for_each(|entry| map.push_entry(to, entry))
    }
}

/// The value in a row of a column of whatever type; `None` if there is none.
fn typed_value(array: &ArrayRef, is_json: bool, row: usize) -> Option<Value<'_>> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Int64 => Some(Value::Int(array.as_primitive::<Int64Type>().value(row))),
        DataType::Float64 => Some(Value::Double(array.as_primitive::<Float64Type>().value(row))),
        DataType::Boolean => Some(Value::Bool(array.as_boolean().value(row))),
        DataType::Utf8 if is_json => Some(Value::Json(array.as_string::<i32>().value(row))),
        DataType::Utf8 => Some(Value::String(array.as_string::<i32>().value(row))),
        _ => None,
    }
}

struct Events<'a> {
    list: &'a ListArray,
    time: &'a TimestampNanosecondArray,
    name: &'a StringArray,
    attributes: &'a StringArray,
    dropped: &'a Int64Array,
}

impl<'a> Events<'a> {
    fn of(list: &'a ListArray) -> Result<Self, ReferenceError> {
        let element = list.values().as_struct();
        Ok(Self {
            list,
            time: typed(element.column_by_name("time"), "events.time")?,
            name: typed(element.column_by_name("name"), "events.name")?,
            attributes: typed(element.column_by_name("attributes"), "events.attributes")?,
            dropped: typed(
                element.column_by_name("dropped_attributes_count"),
                "events.dropped_attributes_count",
            )?,
        })
    }

    fn push(&self, columns: &mut SpanColumns, row: usize) {
        let offsets = self.list.value_offsets();
        for entry in offsets[row] as usize..offsets[row + 1] as usize {
            columns.events.push(EventView {
                time_ns: self.time.value(entry),
                name: self.name.value(entry),
                attributes: text(self.attributes, entry),
                dropped_attributes_count: count(self.dropped, entry),
            });
        }
    }
}

struct Links<'a> {
    list: &'a ListArray,
    trace_id: &'a FixedSizeBinaryArray,
    span_id: &'a FixedSizeBinaryArray,
    trace_state: &'a StringArray,
    attributes: &'a StringArray,
    dropped: &'a Int64Array,
    flags: &'a Int64Array,
}

impl<'a> Links<'a> {
    fn of(list: &'a ListArray) -> Result<Self, ReferenceError> {
        let element = list.values().as_struct();
        Ok(Self {
            list,
            trace_id: typed(element.column_by_name("trace_id"), "links.trace_id")?,
            span_id: typed(element.column_by_name("span_id"), "links.span_id")?,
            trace_state: typed(element.column_by_name("trace_state"), "links.trace_state")?,
            attributes: typed(element.column_by_name("attributes"), "links.attributes")?,
            dropped: typed(
                element.column_by_name("dropped_attributes_count"),
                "links.dropped_attributes_count",
            )?,
            flags: typed(element.column_by_name("flags"), "links.flags")?,
        })
    }

    fn push(&self, columns: &mut SpanColumns, row: usize) {
        let offsets = self.list.value_offsets();
        for entry in offsets[row] as usize..offsets[row + 1] as usize {
            columns.links.push(LinkView {
                trace_id: trace_id(self.trace_id, entry),
                span_id: span_id(self.span_id, entry),
                trace_state: text(self.trace_state, entry),
                attributes: text(self.attributes, entry),
                dropped_attributes_count: count(self.dropped, entry),
                flags: count(self.flags, entry),
            });
        }
    }
}
