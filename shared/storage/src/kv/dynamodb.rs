//! A table in DynamoDB.
//!
//! ```text
//! pk  S  partition (partition key)      sk  S  sort key (sort key)
//! v   B  the value                      ver N  version: 64 random bits, never 0
//! exp N  seconds since the epoch, only where the item expires; the table's time-to-live attribute
//! ```
//!
//! A write chooses the version that its item gets, so it needs no read before, and it can prove itself: DynamoDB
//! returns the item that made a condition fail, and if that has the version of this very write, the condition failed
//! because an earlier attempt, whose answer was lost, had succeeded.
//! Where an attempt's fate is unknown and another writer's item is there now, the answer is "unavailable", never
//! "condition failed".
//! A transaction of one write is a plain conditional write, which costs half.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, CancellationReason, ConditionCheck, Delete,
    KeySchemaElement, KeyType, KeysAndAttributes, Put, ReturnValuesOnConditionCheckFailure,
    ScalarAttributeType, TableStatus, TimeToLiveSpecification, TransactWriteItem,
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::memory::{holds, refuse_oversized};
use super::{Condition, Item, Key, KeyValue, NewItem, Outcome, Page, SortRange, Write};
use crate::aws::{MAX_ATTEMPTS, UniqueNumbers, failed, may_have_happened, may_pass};
use crate::{Error, Result};

const STORE: &str = "table";
/// Tries of a write that meets a transaction, and of the part of a batch that was throttled.
const CONTENDED_ATTEMPTS: u32 = 8;
/// Keys of one batch; DynamoDB's limit.
const BATCH_KEYS: usize = 100;
/// Batches that one call has under way at once.
const CONCURRENT_BATCHES: usize = 8;

type Attributes = HashMap<String, AttributeValue>;

/// A table in DynamoDB.
#[derive(Debug)]
pub struct DynamoTable {
    client: Client,
    name: String,
    numbers: UniqueNumbers,
}

impl DynamoTable {
    /// The table called `name`, which has to be there; see [`create_table_if_absent`] for its shape.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { client, name: name.into(), numbers: UniqueNumbers::default() }
    }

    /// Reads at most [`BATCH_KEYS`] items.
    async fn get_batch(&self, keys: &[Key]) -> Result<Vec<Option<Item>>> {
        let doing = || format!("reading {} items", keys.len());
        let mut found = HashMap::with_capacity(keys.len());
        let mut left: Vec<Attributes> = keys.iter().map(key_attributes).collect();
        let mut attempt = 0;
        loop {
            let wanted = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(true).build();
            let request = self.client.batch_get_item().request_items(&self.name, wanted.map_err(incomplete)?);
            let output = request.send().await.map_err(|error| failed(STORE, doing(), error))?;
            for attributes in output.responses.into_iter().flatten().flat_map(|(_, items)| items) {
                let key = Key::new(text(&attributes, "pk")?, text(&attributes, "sk")?);
                found.insert(key, to_item(attributes)?);
            }
            let unprocessed = output.unprocessed_keys.and_then(|mut tables| tables.remove(&self.name));
            left = unprocessed.map(|keys| keys.keys).unwrap_or_default();
            if left.is_empty() {
                return Ok(keys.iter().map(|key| found.remove(key)).collect());
            }
            if attempt + 1 >= CONTENDED_ATTEMPTS {
                return Err(Error::unavailable(STORE, doing(), "throttled"));
            }
            tokio::time::sleep(self.numbers.backoff(attempt)).await;
            attempt += 1;
        }
    }

    /// A plain put. Repeats it itself, instead of the SDK, to know whether an attempt went astray.
    async fn put_one(&self, key: &Key, item: &NewItem, condition: Condition) -> Result<Outcome> {
        let version = self.numbers.next();
        let attributes = item_attributes(key, item, version);
        let (expression, values) = condition_expression(condition);
        let mut fate_unknown = false;
        let mut attempt = 0;
        loop {
            let request = self.client.put_item().table_name(&self.name).set_item(Some(attributes.clone()));
            let request = request
                .set_condition_expression(expression.clone())
                .set_expression_attribute_values(values.clone())
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
            let once = aws_sdk_dynamodb::config::Builder::new().retry_config(RetryConfig::disabled());
            let Err(error) = request.customize().config_override(once).send().await else {
                return Ok(Outcome::Written);
            };
            let doing = || format!("writing {} {}", key.partition, key.sort);
            if let Some(PutItemError::ConditionalCheckFailedException(failure)) = error.as_service_error() {
                if failure.item().is_some_and(|old| version_of(old) == Some(version)) {
                    return Ok(Outcome::Written);
                }
                if fate_unknown {
                    return Err(Error::unavailable(
                        STORE,
                        doing(),
                        "an attempt went astray and the item changed",
                    ));
                }
                return Ok(Outcome::ConditionFailed);
            }
            fate_unknown |= may_have_happened(&error);
            let max_attempts = if is_contention(&error) { CONTENDED_ATTEMPTS } else { MAX_ATTEMPTS };
            if !may_pass(&error) || attempt + 1 >= max_attempts {
                // An earlier attempt may have happened, whatever the last one says.
                return Err(if fate_unknown {
                    Error::unavailable(STORE, doing(), error)
                } else {
                    failed(STORE, doing(), error)
                });
            }
            tokio::time::sleep(self.numbers.backoff(attempt)).await;
            attempt += 1;
        }
    }

    /// A real transaction. Its token makes repetitions, by the SDK or here, the same transaction for ten minutes.
    async fn transact_many(&self, writes: &[Write]) -> Result<Outcome> {
        let doing = || format!("writing {} items", writes.len());
        let token = format!("{:016x}{:016x}", self.numbers.next(), self.numbers.next());
        let versions: Vec<u64> = writes.iter().map(|_| self.numbers.next()).collect();
        let mut actions = Vec::with_capacity(writes.len());
        for (write, version) in writes.iter().zip(&versions) {
            actions.push(self.action(write, *version)?);
        }
        let mut attempt = 0;
        loop {
            let request = self.client.transact_write_items().client_request_token(&token);
            let Err(error) = request.set_transact_items(Some(actions.clone())).send().await else {
                return Ok(Outcome::Written);
            };
            let mut contended = is_contention(&error);
            if let Some(TransactWriteItemsError::TransactionCanceledException(canceled)) =
                error.as_service_error()
            {
                let reasons = canceled.cancellation_reasons();
                // Where an emulator ignores the token: any of our versions proves that all of it was written.
                let is_ours =
                    |old: &Attributes| version_of(old).is_some_and(|version| versions.contains(&version));
                if reasons.iter().filter_map(CancellationReason::item).any(is_ours) {
                    return Ok(Outcome::Written);
                }
                if reasons.iter().any(|reason| reason.code() == Some("ConditionalCheckFailed")) {
                    return Ok(Outcome::ConditionFailed);
                }
                contended = reasons.iter().filter_map(CancellationReason::code).any(is_contention_code);
            }
            if !contended {
                return Err(failed(STORE, doing(), error));
            }
            if attempt + 1 >= CONTENDED_ATTEMPTS {
                return Err(Error::unavailable(STORE, doing(), error));
            }
            tokio::time::sleep(self.numbers.backoff(attempt)).await;
            attempt += 1;
        }
    }

    fn action(&self, write: &Write, version: u64) -> Result<TransactWriteItem> {
        let all_old = ReturnValuesOnConditionCheckFailure::AllOld;
        let action = TransactWriteItem::builder();
        Ok(match write {
            Write::Put(key, item, condition) => {
                let (expression, values) = condition_expression(*condition);
                let put = Put::builder()
                    .table_name(&self.name)
                    .set_item(Some(item_attributes(key, item, version)))
                    .set_condition_expression(expression)
                    .set_expression_attribute_values(values)
                    .return_values_on_condition_check_failure(all_old);
                action.put(put.build().map_err(incomplete)?).build()
            }
            Write::Delete(key, condition) => {
                let (expression, values) = condition_expression(*condition);
                let delete = Delete::builder()
                    .table_name(&self.name)
                    .set_key(Some(key_attributes(key)))
                    .set_condition_expression(expression)
                    .set_expression_attribute_values(values);
                action.delete(delete.build().map_err(incomplete)?).build()
            }
            Write::Check(key, condition) => {
                let (expression, values) = condition_expression(*condition);
                let check = ConditionCheck::builder()
                    .table_name(&self.name)
                    .set_key(Some(key_attributes(key)))
                    .set_condition_expression(expression)
                    .set_expression_attribute_values(values);
                action.condition_check(check.build().map_err(incomplete)?).build()
            }
        })
    }

    /// Removes what is there, whatever it is: doing it twice is doing it once, so the SDK may repeat it.
    async fn delete_one(&self, key: &Key) -> Result<()> {
        let mut attempt = 0;
        loop {
            let request = self.client.delete_item().table_name(&self.name).set_key(Some(key_attributes(key)));
            let Err(error) = request.send().await else { return Ok(()) };
            if !is_contention(&error) || attempt + 1 >= CONTENDED_ATTEMPTS {
                return Err(failed(STORE, format!("deleting {} {}", key.partition, key.sort), error));
            }
            tokio::time::sleep(self.numbers.backoff(attempt)).await;
            attempt += 1;
        }
    }
}

#[async_trait::async_trait]
impl KeyValue for DynamoTable {
    async fn get(&self, key: &Key) -> Result<Option<Item>> {
        let request = self.client.get_item().table_name(&self.name).set_key(Some(key_attributes(key)));
        let output = request.consistent_read(true).send().await;
        let output = output
            .map_err(|error| failed(STORE, format!("reading {} {}", key.partition, key.sort), error))?;
        output.item.map(to_item).transpose()
    }

    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>> {
        let batches: Vec<_> = keys.chunks(BATCH_KEYS).map(|batch| self.get_batch(batch)).collect();
        let found: Vec<Vec<Option<Item>>> =
            stream::iter(batches).buffered(CONCURRENT_BATCHES).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn range(
        &self,
        partition: &str,
        range: SortRange<'_>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page> {
        let Some(question) = RangeQuestion::new(range, after) else { return Ok(Page::default()) };
        let limit = limit.max(1);
        let page_limit = i32::try_from(limit.saturating_add(question.n_before)).ok();
        let request = self.client.query().table_name(&self.name).consistent_read(true);
        let mut request = request
            .key_condition_expression(question.expression)
            .projection_expression("sk, v, ver")
            .expression_attribute_values(":pk", AttributeValue::S(partition.to_owned()))
            .set_limit(page_limit);
        if let Some(lower) = question.lower {
            request = request.expression_attribute_values(":lower", AttributeValue::S(lower.to_owned()));
        }
        if let Some(upper) = question.upper {
            request = request.expression_attribute_values(":upper", AttributeValue::S(upper.to_owned()));
        }
        let output = request.send().await;
        let output =
            output.map_err(|error| failed(STORE, format!("reading a range of {partition}"), error))?;
        let mut page = Page::default();
        if let Some(last) = &output.last_evaluated_key {
            page.next = Some(text(last, "sk")?.to_owned());
        }
        for attributes in output.items.into_iter().flatten() {
            let sort = text(&attributes, "sk")?.to_owned();
            if after.is_some_and(|after| *sort <= *after) {
                continue;
            }
            if range.end.is_some_and(|end| *sort >= *end) {
                page.next = None;
                break;
            }
            if page.items.len() >= limit {
                page.next = page.items.last().map(|(sort, _)| sort.clone());
                break;
            }
            page.items.push((sort, to_item(attributes)?));
        }
        Ok(page)
    }

    async fn put(&self, key: Key, item: NewItem, condition: Condition) -> Result<Outcome> {
        self.transact(vec![Write::Put(key, item, condition)]).await
    }

    async fn transact(&self, mut writes: Vec<Write>) -> Result<Outcome> {
        refuse_oversized(&writes)?;
        writes.retain(|write| !matches!(write, Write::Check(_, Condition::None)));
        match &writes[..] {
            [] => Ok(Outcome::Written),
            [Write::Put(key, item, condition)] => self.put_one(key, item, *condition).await,
            [Write::Check(key, condition)] => {
                let version = self.get(key).await?.map(|item| item.version);
                Ok(if holds(*condition, version) { Outcome::Written } else { Outcome::ConditionFailed })
            }
            [Write::Delete(key, Condition::None)] => {
                self.delete_one(key).await?;
                Ok(Outcome::Written)
            }
            // Also for one conditional delete: it leaves nothing behind that could prove it, but its token does.
            writes => self.transact_many(writes).await,
        }
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.delete_one(key).await
    }
}

/// Makes a table of the shape that [`DynamoTable`] wants, billed by request, with `exp` as its time to live, and
/// waits until it can be used. For tools and tests; one that is there already is left as it is.
///
/// # Errors
/// Refused or unavailable, as DynamoDB says.
pub async fn create_table_if_absent(client: &Client, name: &str) -> Result<()> {
    let doing = || format!("creating table {name}");
    let mut request = client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    for (attribute, key_type) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
        let definition = AttributeDefinition::builder().attribute_name(attribute);
        let element = KeySchemaElement::builder().attribute_name(attribute).key_type(key_type);
        request = request
            .attribute_definitions(
                definition.attribute_type(ScalarAttributeType::S).build().map_err(incomplete)?,
            )
            .key_schema(element.build().map_err(incomplete)?);
    }
    match request.send().await {
        Ok(_) => {}
        Err(error) if error.code() == Some("ResourceInUseException") => {}
        Err(error) => return Err(failed(STORE, doing(), error)),
    }
    let mut checks_left = 300;
    loop {
        let described = client.describe_table().table_name(name).send().await;
        let described = described.map_err(|error| failed(STORE, doing(), error))?;
        if described.table.and_then(|table| table.table_status) == Some(TableStatus::Active) {
            break;
        }
        if checks_left == 0 {
            return Err(Error::unavailable(STORE, doing(), "not active after a minute"));
        }
        checks_left -= 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let time_to_live = TimeToLiveSpecification::builder().attribute_name("exp").enabled(true);
    let time_to_live = time_to_live.build().map_err(incomplete)?;
    match client.update_time_to_live().table_name(name).time_to_live_specification(time_to_live).send().await
    {
        // It is on already, or was changed within the hour.
        Err(error) if error.code() == Some("ValidationException") => Ok(()),
        Err(error) => Err(failed(STORE, doing(), error)),
        Ok(_) => Ok(()),
    }
}

/// One condition on the sort key is all that a query takes; what it finds too much at the ends is dropped.
struct RangeQuestion<'a> {
    expression: &'static str,
    lower: Option<&'a str>,
    upper: Option<&'a str>,
    /// Items that may come first although they are before the range: that of `after`.
    n_before: usize,
}

impl<'a> RangeQuestion<'a> {
    /// `None` if nothing can be in the range.
    fn new(range: SortRange<'a>, after: Option<&'a str>) -> Option<Self> {
        let (lower, lower_itself) = match after {
            Some(after) if after >= range.start => (after, false),
            _ => (range.start, true),
        };
        if range.end.is_some_and(|end| lower >= end) {
            return None;
        }
        let expression = match (lower, lower_itself, range.end) {
            ("", _, None) => "pk = :pk",
            ("", _, Some(_)) => "pk = :pk AND sk < :upper",
            (_, true, None) => "pk = :pk AND sk >= :lower",
            (_, false, None) => "pk = :pk AND sk > :lower",
            (_, _, Some(_)) => "pk = :pk AND sk BETWEEN :lower AND :upper",
        };
        let n_before = usize::from(!lower_itself && range.end.is_some());
        Some(Self {
            expression,
            lower: Some(lower).filter(|lower| !lower.is_empty()),
            upper: range.end,
            n_before,
        })
    }
}

fn key_attributes(key: &Key) -> Attributes {
    HashMap::from([
        ("pk".to_owned(), AttributeValue::S(key.partition.clone())),
        ("sk".to_owned(), AttributeValue::S(key.sort.clone())),
    ])
}

fn item_attributes(key: &Key, item: &NewItem, version: u64) -> Attributes {
    let mut attributes = key_attributes(key);
    attributes.insert("v".to_owned(), AttributeValue::B(Blob::new(item.value.to_vec())));
    attributes.insert("ver".to_owned(), AttributeValue::N(version.to_string()));
    if let Some(expires_at_s) = item.expires_at_s {
        attributes.insert("exp".to_owned(), AttributeValue::N(expires_at_s.to_string()));
    }
    attributes
}

fn condition_expression(condition: Condition) -> (Option<String>, Option<Attributes>) {
    match condition {
        Condition::None => (None, None),
        Condition::Absent => (Some("attribute_not_exists(pk)".to_owned()), None),
        Condition::Version(version) => {
            let values = HashMap::from([(":ver".to_owned(), AttributeValue::N(version.to_string()))]);
            (Some("ver = :ver".to_owned()), Some(values))
        }
    }
}

fn to_item(mut attributes: Attributes) -> Result<Item> {
    let version = version_of(&attributes).ok_or_else(|| Error::corrupt("table item", "no version"))?;
    match attributes.remove("v") {
        Some(AttributeValue::B(value)) => Ok(Item { value: Bytes::from(value.into_inner()), version }),
        _ => Err(Error::corrupt("table item", "no value")),
    }
}

fn version_of(attributes: &Attributes) -> Option<u64> {
    attributes.get("ver")?.as_n().ok()?.parse().ok()
}

fn text<'a>(attributes: &'a Attributes, name: &str) -> Result<&'a str> {
    let text = attributes.get(name).and_then(|value| value.as_s().ok());
    text.map(String::as_str).ok_or_else(|| Error::corrupt("table item", format!("no {name}")))
}

/// Whether another transaction had the item, which the SDK does not try again.
fn is_contention<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    error.code().is_some_and(is_contention_code)
}

fn is_contention_code(code: &str) -> bool {
    matches!(
        code,
        "TransactionConflict"
            | "TransactionConflictException"
            | "TransactionInProgressException"
            | "ReplicatedWriteConflictException"
            | "ThrottlingError"
            | "ProvisionedThroughputExceeded"
    )
}

fn incomplete(error: aws_sdk_dynamodb::error::BuildError) -> Error {
    Error::refused(STORE, "making a request", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::stub::{Answer, nobody, serve};

    fn table(answer: impl Fn(usize, &str) -> Answer + Send + 'static) -> DynamoTable {
        DynamoTable::new(serve(answer).0.dynamodb, "table")
    }

    fn error(code: &str, more: &str) -> Answer {
        Answer::Is(
            400,
            format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"prepared"{more}}}"#),
        )
    }

    fn condition_failed(version: &str) -> Answer {
        error("ConditionalCheckFailedException", &format!(r#","Item":{{"ver":{{"N":"{version}"}}}}"#))
    }

    fn canceled(reasons: &str) -> Answer {
        error("TransactionCanceledException", &format!(r#","CancellationReasons":[{reasons}]"#))
    }

    fn done() -> Answer {
        Answer::Is(200, "{}".to_owned())
    }

    /// What follows `before` in the request, up to the next quote.
    fn quoted<'a>(request: &'a str, before: &str) -> &'a str {
        request.split(before).nth(1).and_then(|rest| rest.split('"').next()).expect("the attribute")
    }

    async fn put(table: &DynamoTable) -> Result<Outcome> {
        table.put(Key::new("p", "s"), NewItem::lasting("x"), Condition::Absent).await
    }

    async fn transact(table: &DynamoTable) -> Result<Outcome> {
        let put = |sort| Write::Put(Key::new("p", sort), NewItem::lasting("x"), Condition::Absent);
        table.transact(vec![put("a"), put("b")]).await
    }

    #[tokio::test]
    async fn put_whose_answer_was_lost_proves_itself() {
        let table = table(|n, request| match n {
            0 => Answer::None,
            1 => Answer::Is(500, "{}".to_owned()),
            _ => condition_failed(quoted(request, r#""ver":{"N":""#)),
        });
        assert_eq!(put(&table).await.expect("put"), Outcome::Written);
    }

    #[tokio::test]
    async fn put_of_unknown_fate_is_not_told_to_have_failed() {
        let replaced = table(|n, _| if n == 0 { Answer::None } else { condition_failed("12345") });
        assert!(matches!(put(&replaced).await, Err(Error::Unavailable { .. })));
        let refused = table(|n, _| if n == 0 { Answer::None } else { error("AccessDeniedException", "") });
        assert!(matches!(put(&refused).await, Err(Error::Unavailable { .. })));
        // Throttling is no unknown fate.
        let throttled =
            table(|n, _| if n == 0 { error("ThrottlingException", "") } else { condition_failed("12345") });
        assert_eq!(put(&throttled).await.expect("put"), Outcome::ConditionFailed);
        let not_there = table(|_, _| error("ConditionalCheckFailedException", ""));
        assert_eq!(put(&not_there).await.expect("put"), Outcome::ConditionFailed);
    }

    #[tokio::test]
    async fn contended_transaction_is_the_same_one_again() {
        let (clients, requests) = serve(|n, _| match n {
            0..3 => canceled(r#"{"Code":"None"},{"Code":"TransactionConflict"}"#),
            3 => Answer::None,
            _ => done(),
        });
        let table = DynamoTable::new(clients.dynamodb, "table");
        assert_eq!(transact(&table).await.expect("transact"), Outcome::Written);
        let requests = requests.lock().expect("no panic").clone();
        let tokens: Vec<&str> =
            requests.iter().map(|request| quoted(request, r#""ClientRequestToken":""#)).collect();
        assert_eq!(tokens.len(), 5);
        assert!(tokens.iter().all(|token| *token == tokens[0] && token.len() == 32), "{tokens:?}");
    }

    #[tokio::test]
    async fn reasons_decide_a_canceled_transaction() {
        let failed = table(|_, _| canceled(r#"{"Code":"None"},{"Code":"ConditionalCheckFailed"}"#));
        assert_eq!(transact(&failed).await.expect("transact"), Outcome::ConditionFailed);
        let contended = table(|_, _| canceled(r#"{"Code":"None"},{"Code":"TransactionConflict"}"#));
        assert!(matches!(transact(&contended).await, Err(Error::Unavailable { .. })));
        let invalid = table(|_, _| canceled(r#"{"Code":"None"},{"Code":"ValidationError"}"#));
        assert!(matches!(transact(&invalid).await, Err(Error::Refused { .. })));
        let written_before = table(|_, request| {
            let item = format!(r#""Item":{{"ver":{{"N":"{}"}}}}"#, quoted(request, r#""ver":{"N":""#));
            canceled(&format!(r#"{{"Code":"ConditionalCheckFailed",{item}}},{{"Code":"None"}}"#))
        });
        assert_eq!(transact(&written_before).await.expect("transact"), Outcome::Written);
    }

    #[tokio::test]
    async fn batch_asks_again_for_what_was_left_out() {
        let item = |sort: &str| {
            format!(r#"{{"pk":{{"S":"p"}},"sk":{{"S":"{sort}"}},"v":{{"B":"eA=="}},"ver":{{"N":"1"}}}}"#)
        };
        let table = table(move |n, _| {
            let (found, left) = match n {
                0 => (item("a"), r#"{"table":{"Keys":[{"pk":{"S":"p"},"sk":{"S":"b"}}]}}"#),
                _ => (item("b"), "{}"),
            };
            Answer::Is(200, format!(r#"{{"Responses":{{"table":[{found}]}},"UnprocessedKeys":{left}}}"#))
        });
        let keys = ["b", "c", "a"].map(|sort| Key::new("p", sort));
        let found = table.batch_get(&keys).await.expect("batch_get");
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    }

    #[tokio::test]
    async fn errors_are_told_apart_by_what_helps() {
        for (code, may_pass) in [
            ("ThrottlingException", true),
            ("ProvisionedThroughputExceededException", true),
            ("RequestLimitExceeded", true),
            ("TransactionConflictException", true),
            ("AccessDeniedException", false),
            ("ResourceNotFoundException", false),
            ("ValidationException", false),
        ] {
            let table = table(move |_, _| error(code, ""));
            let key = Key::new("p", "s");
            for outcome in
                [put(&table).await.map(drop), table.get(&key).await.map(drop), table.delete(&key).await]
            {
                match outcome {
                    Err(Error::Unavailable { .. }) if may_pass => {}
                    Err(Error::Refused { .. }) if !may_pass => {}
                    outcome => panic!("{code}: {outcome:?}"),
                }
            }
        }
        let nobody = DynamoTable::new(nobody().dynamodb, "table");
        assert!(matches!(put(&nobody).await, Err(Error::Unavailable { .. })));
        assert!(matches!(transact(&nobody).await, Err(Error::Unavailable { .. })));
    }

    #[test]
    fn range_asks_one_question() {
        for (start, end, after, expected) in [
            ("", None, None, Some("pk = :pk")),
            ("", Some("b"), None, Some("pk = :pk AND sk < :upper")),
            ("a", None, None, Some("pk = :pk AND sk >= :lower")),
            ("a", None, Some("a"), Some("pk = :pk AND sk > :lower")),
            ("b", None, Some("a"), Some("pk = :pk AND sk >= :lower")),
            ("a", Some("c"), Some("b"), Some("pk = :pk AND sk BETWEEN :lower AND :upper")),
            ("a", Some("c"), Some("c"), None),
            ("c", Some("b"), None, None),
            ("a", Some(""), None, None),
        ] {
            let question = RangeQuestion::new(SortRange { start, end }, after);
            assert_eq!(
                question.map(|question| question.expression),
                expected,
                "{start}..{end:?} after {after:?}"
            );
        }
    }
}
