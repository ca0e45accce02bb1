//! JSON Schema of each resource, made of the types that requests are read into and answers are made of.

use schemars::{JsonSchema, Schema, schema_for};

use super::resource::{Kind, Resource};
use super::{Agent, Honeytoken};

/// The schemas of one resource. Bodies of requests are flat objects of the members of two of them.
#[derive(Clone, Debug)]
pub struct Schemas {
    /// Whose.
    pub kind: Kind,
    /// What a person gives. All of it is optional in a merge patch, but for what is fixed.
    pub spec: Schema,
    /// What may stand beside the spec of a new one.
    pub with: Schema,
    /// What may stand beside a merge patch of the spec.
    pub change_with: Schema,
    /// What answers have beside the spec, the id and the times.
    pub shown: Schema,
    /// Members of the spec that cannot be changed.
    pub fixed: &'static [&'static str],
}

/// Those of all resources, in the order of the documentation.
pub fn schemas() -> Vec<Schemas> {
    vec![of::<Agent>(), of::<Honeytoken>()]
}

fn of<R: Resource>() -> Schemas {
    Schemas {
        kind: R::KIND,
        spec: schema::<R::Spec>(),
        with: schema::<R::With>(),
        change_with: schema::<R::ChangeWith>(),
        shown: schema::<R::Shown>(),
        fixed: R::FIXED,
    }
}

fn schema<T: JsonSchema>() -> Schema {
    schema_for!(T)
}
