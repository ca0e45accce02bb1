//! JSON Schema of each resource, made of the types that requests are read into and answers are made of.

use schemars::{JsonSchema, Schema, schema_for};

use super::binding::{BINDINGS_MAX, BindingShown, BindingSpec};
use super::personal_token::{
    PERSONAL_TOKENS_MAX, PersonalTokenCreateOptions, PersonalTokenShown, PersonalTokenSpec,
};
use super::resource::{Kind, NoMembers, Resource};
use super::rule::{Rule, RuleShown};
use super::token::{AGENT_TOKENS_MAX, TokenCreateOptions, TokenShown, TokenSpec};
use super::{
    Agent, App, ConnectSession, Connection, DatabaseListener, Honeytoken, Hook, Login, Org, Plugin,
    PluginView, Session, Source, User, Webhook,
};

/// The schemas of one resource. Bodies of requests are flat objects of the members of two of them.
#[derive(Clone, Debug)]
pub struct Schemas {
    /// The kind of resource.
    pub kind: Kind,
    /// The spec. In a merge patch, all members but the fixed ones are optional.
    pub spec: Schema,
    /// Members beside the spec in a request that adds a resource.
    pub create_options: Schema,
    /// Members beside the merge patch in a request that changes a resource.
    pub change_options: Schema,
    /// Members of answers beside the spec, the id and the times.
    pub shown: Schema,
    /// Members of the spec that cannot be changed.
    pub fixed: &'static [&'static str],
}

/// Those of all resources, in the order of the documentation.
pub fn schemas() -> Vec<Schemas> {
    vec![
        of::<Org>(),
        of::<User>(),
        personal_token(),
        of::<Login>(),
        of::<App>(),
        of::<Connection>(),
        of::<Agent>(),
        token(),
        binding(),
        plugin(),
        of::<Session>(),
        of::<ConnectSession>(),
        rule(),
        of::<Webhook>(),
        of::<Hook>(),
        of::<DatabaseListener>(),
        of::<Honeytoken>(),
        of::<Source>(),
    ]
}

fn of<R: Resource>() -> Schemas {
    Schemas {
        kind: R::KIND,
        spec: schema::<R::Spec>(),
        create_options: schema::<R::CreateOptions>(),
        change_options: schema::<R::ChangeOptions>(),
        shown: schema::<R::Shown>(),
        fixed: R::FIXED,
    }
}

/// Personal tokens are in the records of users.
fn personal_token() -> Schemas {
    Schemas {
        kind: Kind { one: "token", article: "a token", many: "tokens", max: PERSONAL_TOKENS_MAX },
        spec: schema::<PersonalTokenSpec>(),
        create_options: schema::<PersonalTokenCreateOptions>(),
        change_options: schema::<NoMembers>(),
        shown: schema::<PersonalTokenShown>(),
        fixed: &[],
    }
}

/// Tokens and bindings are in the records of agents.
fn token() -> Schemas {
    let (article, max) = ("an agent token", AGENT_TOKENS_MAX);
    Schemas {
        kind: Kind { one: "agent token", article, many: "tokens", max },
        spec: schema::<TokenSpec>(),
        create_options: schema::<TokenCreateOptions>(),
        change_options: schema::<NoMembers>(),
        shown: schema::<TokenShown>(),
        fixed: &[],
    }
}

/// Answers with a plugin are no spec with facts beside it.
fn plugin() -> Schemas {
    Schemas { shown: schema::<PluginView>(), ..of::<Plugin>() }
}

fn binding() -> Schemas {
    Schemas {
        kind: Kind { one: "binding", article: "a binding", many: "bindings", max: BINDINGS_MAX },
        spec: schema::<BindingSpec>(),
        create_options: schema::<NoMembers>(),
        change_options: schema::<NoMembers>(),
        shown: schema::<BindingShown>(),
        fixed: &[],
    }
}

/// What is shown of a rule includes its spec: rules of the configuration are shown as well, and have no record.
fn rule() -> Schemas {
    Schemas { shown: schema::<RuleShown>(), ..of::<Rule>() }
}

fn schema<T: JsonSchema>() -> Schema {
    schema_for!(T)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemas_are_those_that_were_published() {
        let mut text = String::new();
        for Schemas { kind, spec, create_options, change_options, shown, fixed } in schemas() {
            text += &format!("=== {} (fixed: {fixed:?}) ===\n", kind.one);
            for (part, schema) in [
                ("spec", spec),
                ("with", create_options),
                ("change_with", change_options),
                ("shown", shown),
            ] {
                text +=
                    &format!("--- {part}\n{}\n", serde_json::to_string_pretty(&schema).unwrap());
            }
        }
        insta::assert_snapshot!(text);
    }
}
