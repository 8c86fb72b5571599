//! Resources and scopes in protobuf.

use model::columns::EntityRef;

use super::value::{Raw, key_value, write_entry};
use crate::otlp::batch::{Batch, ResourceIn, Rows, ScopeIn};
use crate::protobuf::{Broken, END, Reader, length, varint};

pub(super) fn read_resource<C: Rows>(
    batch: &mut Batch<'_, C>,
    mut message: Reader<'_>,
    resource: &mut ResourceIn,
) -> Result<(), Broken> {
    const ATTRIBUTES: u32 = length(1);
    const DROPPED_ATTRIBUTES_COUNT: u32 = varint(2);
    const ENTITY_REFS: u32 = length(3);
    loop {
        match message.tag()? {
            END => return Ok(()),
            ATTRIBUTES => {
                let (key, value) = key_value(message.message()?)?;
                if let (b"service.name", Raw::String(text), None) = (key, value, &resource.service) {
                    resource.service = Some(owned_text(batch, text, "service name"));
                }
                write_entry(batch, &mut resource.attributes, key, value)?;
            }
            DROPPED_ATTRIBUTES_COUNT => resource.meta.dropped_attributes_count = message.varint()? as u32,
            ENTITY_REFS => entity_ref(batch, message.message()?, resource)?,
            tag => message.skip(tag)?,
        }
    }
}

fn entity_ref<C: Rows>(
    batch: &mut Batch<'_, C>,
    mut message: Reader<'_>,
    resource: &mut ResourceIn,
) -> Result<(), Broken> {
    const SCHEMA_URL: u32 = length(1);
    const TYPE: u32 = length(2);
    const ID_KEYS: u32 = length(3);
    const DESCRIPTION_KEYS: u32 = length(4);
    if !batch.count_entity(resource) {
        return Ok(());
    }
    let mut entity = EntityRef::default();
    loop {
        match message.tag()? {
            END => break,
            SCHEMA_URL => entity.schema_url = owned_text(batch, message.bytes()?, "schema url of entity"),
            TYPE => entity.kind = owned_text(batch, message.bytes()?, "type of entity"),
            tag @ (ID_KEYS | DESCRIPTION_KEYS) => {
                let key = owned_text(batch, message.bytes()?, "key of entity");
                if !batch.count_entity(resource) {
                    return Ok(());
                }
                let keys = if tag == ID_KEYS { &mut entity.id_keys } else { &mut entity.description_keys };
                keys.push(key);
            }
            tag => message.skip(tag)?,
        }
    }
    resource.meta.entity_refs.push(entity);
    Ok(())
}

pub(super) fn read_scope<C: Rows>(
    batch: &mut Batch<'_, C>,
    mut message: Reader<'_>,
    scope: &mut ScopeIn,
) -> Result<(), Broken> {
    const NAME: u32 = length(1);
    const VERSION: u32 = length(2);
    const ATTRIBUTES: u32 = length(3);
    const DROPPED_ATTRIBUTES_COUNT: u32 = varint(4);
    loop {
        match message.tag()? {
            END => return Ok(()),
            NAME => scope.name = owned_text(batch, message.bytes()?, "scope name"),
            VERSION => scope.version = owned_text(batch, message.bytes()?, "scope version"),
            ATTRIBUTES => {
                let (key, value) = key_value(message.message()?)?;
                write_entry(batch, &mut scope.attributes, key, value)?;
            }
            DROPPED_ATTRIBUTES_COUNT => scope.dropped_attributes_count = message.varint()? as u32,
            tag => message.skip(tag)?,
        }
    }
}

pub(super) fn owned_text<C: Rows>(batch: &mut Batch<'_, C>, bytes: &[u8], what: &'static str) -> String {
    batch.text(bytes, what).to_owned()
}
