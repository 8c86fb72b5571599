//! Resources and scopes in OTLP/JSON.

use model::columns::EntityRef;
use serde::de::{MapAccess, SeqAccess};

use super::scalar::{Fields, Items, List, Object, Text, ignore, number, owned_text};
use super::value::MapEntries;
use crate::otlp::batch::{Batch, ResourceIn, Rows, ScopeIn};

pub(super) struct Resource<'b, 'l, C> {
    pub(super) batch: &'b mut Batch<'l, C>,
    pub(super) resource: &'b mut ResourceIn,
}

impl<'de, C: Rows> Fields<'de> for Resource<'_, '_, C> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let Self { batch, resource } = self;
        match name {
            "attributes" => {
                let mut entries =
                    MapEntries { batch, map: &mut resource.attributes, service: Some(&mut resource.service) };
                map.next_value_seed(List(&mut entries))
            }
            "droppedAttributesCount" => {
                resource.meta.dropped_attributes_count = number(batch, map, "dropped attributes count")?;
                Ok(())
            }
            "entityRefs" => map.next_value_seed(List(self)),
            _ => ignore(map),
        }
    }
}

impl<'de, C: Rows> Items<'de> for Resource<'_, '_, C> {
    fn item<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let mut item = Entity { batch: self.batch, resource: self.resource, found: EntityRef::default() };
        if list.next_element_seed(Object(&mut item))?.is_none() {
            return Ok(false);
        }
        let entity = item.found;
        if self.batch.count_entity(self.resource) {
            self.resource.meta.entity_refs.push(entity);
        }
        Ok(true)
    }
}

struct Entity<'b, 'l, C> {
    batch: &'b mut Batch<'l, C>,
    resource: &'b mut ResourceIn,
    found: EntityRef,
}

impl<'de, C: Rows> Fields<'de> for Entity<'_, '_, C> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let Self { batch, resource, found: entity } = self;
        match name {
            "schemaUrl" => entity.schema_url = owned_text(batch, map, "schema url of entity")?,
            "type" => entity.kind = owned_text(batch, map, "type of entity")?,
            "idKeys" => {
                map.next_value_seed(List(&mut EntityKeys { batch, resource, keys: &mut entity.id_keys }))?;
            }
            "descriptionKeys" => {
                let keys = &mut entity.description_keys;
                map.next_value_seed(List(&mut EntityKeys { batch, resource, keys }))?;
            }
            _ => ignore(map)?,
        }
        Ok(())
    }
}

struct EntityKeys<'b, 'l, C> {
    batch: &'b mut Batch<'l, C>,
    resource: &'b mut ResourceIn,
    keys: &'b mut Vec<String>,
}

impl<'de, C: Rows> Items<'de> for EntityKeys<'_, '_, C> {
    fn item<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let Some(key) = list.next_element_seed(Text)? else { return Ok(false) };
        if self.batch.count_entity(self.resource) {
            let key = key.unwrap_or_default();
            self.keys.push(self.batch.text(key.as_bytes(), "key of entity").to_owned());
        }
        Ok(true)
    }
}

pub(super) struct Scope<'b, 'l, C> {
    pub(super) batch: &'b mut Batch<'l, C>,
    pub(super) scope: &'b mut ScopeIn,
}

impl<'de, C: Rows> Fields<'de> for Scope<'_, '_, C> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let Self { batch, scope } = self;
        match name {
            "name" => scope.name = owned_text(batch, map, "scope name")?,
            "version" => scope.version = owned_text(batch, map, "scope version")?,
            "attributes" => {
                let mut entries = MapEntries { batch, map: &mut scope.attributes, service: None };
                map.next_value_seed(List(&mut entries))?;
            }
            "droppedAttributesCount" => {
                scope.dropped_attributes_count = number(batch, map, "dropped attributes count")?;
            }
            _ => ignore(map)?,
        }
        Ok(())
    }
}
