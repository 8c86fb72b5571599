//! Traces and logs in protobuf, from the wire into columns.
//!
//! No message is built: each function walks one message and hands what it finds to the [`Batch`]; strings stay borrowed
//! from the body until a column takes them. A field that is set twice follows protobuf: the last scalar wins, repeated
//! and nested messages go on where they were.
//!
//! The envelopes of both signals have the same fields under the same numbers and are read here; `traces` and `logs` read
//! their rows, `origin` resources and scopes, `value` attributes.

mod logs;
mod origin;
mod traces;
mod value;

use self::origin::{owned_text, read_resource, read_scope};
use super::batch::{Batch, ResourceIn, Rows, ScopeIn};
use crate::error::Error;
use crate::limits::Limits;
use crate::protobuf::{Broken, END, Reader, length};

/// Rows that protobuf can hold.
pub(super) trait Row: Rows {
    /// Reads the message of one row.
    fn read(batch: &mut Batch<'_, Self>, message: Reader<'_>) -> Result<(), Broken>;
}

/// Reads a request; what is invalid in a row, a scope or a resource rejects its rows.
///
/// # Errors
/// The body is not protobuf.
pub(super) fn decode<'l, C: Row>(body: &[u8], limits: &'l Limits) -> Result<Batch<'l, C>, Error> {
    let mut batch = Batch::new(limits, body.len());
    request(&mut batch, Reader::new(body)).map_err(|broken| broken.in_body(body))?;
    Ok(batch)
}

fn request<C: Row>(batch: &mut Batch<'_, C>, mut message: Reader<'_>) -> Result<(), Broken> {
    const OF_RESOURCE: u32 = length(1);
    loop {
        match message.tag()? {
            END => return Ok(()),
            OF_RESOURCE => of_resource(batch, message.message()?)?,
            tag => message.skip(tag)?,
        }
    }
}

fn of_resource<C: Row>(batch: &mut Batch<'_, C>, mut message: Reader<'_>) -> Result<(), Broken> {
    const RESOURCE: u32 = length(1);
    const OF_SCOPE: u32 = length(2);
    const SCHEMA_URL: u32 = length(3);
    let first_row = batch.n_rows();
    let mut resource = ResourceIn::default();
    loop {
        match message.tag()? {
            END => break,
            RESOURCE => read_resource(batch, message.message()?, &mut resource)?,
            OF_SCOPE => of_scope(batch, message.message()?)?,
            SCHEMA_URL => resource.meta.schema_url = owned_text(batch, message.bytes()?, "schema url"),
            tag => message.skip(tag)?,
        }
        // A row takes its fault with it, so one that is left is the resource's.
        resource.fault = resource.fault.or(batch.fault.take());
    }
    batch.close_resource(first_row, resource);
    Ok(())
}

fn of_scope<C: Row>(batch: &mut Batch<'_, C>, mut message: Reader<'_>) -> Result<(), Broken> {
    const SCOPE: u32 = length(1);
    const ROWS: u32 = length(2);
    const SCHEMA_URL: u32 = length(3);
    let first_row = batch.n_rows();
    let mut scope = ScopeIn::default();
    loop {
        match message.tag()? {
            END => break,
            ROWS => C::read(batch, message.message()?)?,
            SCOPE => read_scope(batch, message.message()?, &mut scope)?,
            SCHEMA_URL => scope.schema_url = owned_text(batch, message.bytes()?, "schema url"),
            tag => message.skip(tag)?,
        }
        // A row takes its fault with it, so one that is left is the scope's.
        scope.fault = scope.fault.or(batch.fault.take());
    }
    batch.close_scope(first_row, scope);
    Ok(())
}
