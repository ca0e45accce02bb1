//! `GET /export`: the resources of an organisation as a configuration. Generic over them: an item is what a person gives
//! (the spec), with names instead of ids, and a reference to a variable instead of each secret.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::database_listeners;
use super::error::ApiError;
use super::openapi::Routes;
use super::valid_rules::ValidRules;
use super::wire::{ExportVariable, ExportView};
use keyward_base::id::{Id, OrgId};
use keyward_model::{
    Agent, App, Connection, ConnectionState, DatabaseListener, Honeytoken, Hook, ManagedBy,
    OwnProvider, Plugin, Record, Resource, Rule, Source, Visibility, Webhook, WebhookState,
};
use keyward_rules::provider::Definition;
use keyward_state::directory::{Stored, View};

/// What no configuration can declare.
const NOT_DECLARED: &str =
    "users, tokens, logins and sessions are not part of a configuration: `keyward backup` has them";

pub(super) fn routes() -> Routes {
    Routes::new().get("/export", ["getExport", "Show all resources as a configuration"], show)
}

async fn show(context: Context, _: ValidRules) -> Result<Json<ExportView>, ApiError> {
    let mut export = Export::new(&context);
    export.providers();
    export.all::<App>().await?;
    export.all::<Source>().await?;
    export.all::<Connection>().await?;
    export.all::<Agent>().await?;
    export.all::<Plugin>().await?;
    export.rules();
    export.all::<Webhook>().await?;
    export.all::<Hook>().await?;
    export.all::<Honeytoken>().await?;
    export.database_listeners();
    export.notes.push(NOT_DECLARED.to_owned());
    let Export { configuration, variables, notes, .. } = export;
    Ok(Json(ExportView { configuration, variables, notes }))
}

/// An export in the making.
struct Export<'a> {
    context: &'a Context,
    view: std::sync::Arc<View>,
    /// Names by id.
    names: BTreeMap<String, String>,
    configuration: Map<String, Value>,
    variables: Vec<ExportVariable>,
    notes: Vec<String>,
}

/// A resource that is exported.
trait Exported: Stored {
    /// Why the record is not exported; `None`: it is exported.
    fn omission_reason(_: &Record<Self>) -> Option<&'static str> {
        None
    }

    /// The properties that the configuration cannot express.
    fn lost(_: &Record<Self>) -> Vec<&'static str> {
        Vec::new()
    }

    /// The members of an item beside the spec.
    async fn extra_members(
        _: &mut Export<'_>,
        _: &Record<Self>,
    ) -> Result<Map<String, Value>, ApiError> {
        Ok(Map::new())
    }
}

const LEFT_THE_FILE: &str = "is paused, because the configuration file no longer names it";
const PAUSED: &str = "is paused: when declared, it is active";
const OWNED: &str = "belongs to a user: when declared, it belongs to the organisation";

impl Exported for App {
    fn omission_reason(record: &Record<Self>) -> Option<&'static str> {
        record.facts.paused.then_some(LEFT_THE_FILE)
    }

    async fn extra_members(
        export: &mut Export<'_>,
        record: &Record<Self>,
    ) -> Result<Map<String, Value>, ApiError> {
        let secrets = record.facts.secrets.iter();
        // References are in the spec.
        let secrets = secrets.filter(|field| !record.references.contains_key(*field));
        Ok(secrets.map(|field| (field.clone(), export.variable(record, field))).collect())
    }
}

impl Exported for Connection {
    fn lost(record: &Record<Self>) -> Vec<&'static str> {
        let is_private = record.facts.visibility == Visibility::Private;
        let private = is_private.then_some(
            "is private to its owner: when declared, all agents of the organisation may be bound to it",
        );
        let owned = record.facts.owner.as_ref().map(|_| OWNED);
        let paused = (record.facts.state == ConnectionState::Paused).then_some(PAUSED);
        private.into_iter().chain(owned).chain(paused).collect()
    }

    async fn extra_members(
        export: &mut Export<'_>,
        record: &Record<Self>,
    ) -> Result<Map<String, Value>, ApiError> {
        let vault = &export.context.deps().vault;
        let catalogue = vault.catalogue(&record.org);
        let provider = catalogue.get(&record.provider);
        let Some(auth) = provider.and_then(|it| it.auth(record.auth.as_deref())) else {
            return Ok(Map::new());
        };
        if auth.is_consented_to() {
            let name = record.name();
            export.notes.push(format!(
                "connection `{name}` needs a person's consent: `keyward connection reconnect {name}`"
            ));
            return Ok(Map::new());
        }
        // A grant that cannot be opened has no such fields to show: they become variables.
        let shown = vault.grants().shown_fields(record).await.unwrap_or_default();
        let mut fields = Map::new();
        for field in &auth.fields {
            // The spec has it.
            if record.references.contains_key(&field.name) {
                continue;
            }
            match shown.get(&field.name) {
                Some(text) => drop(fields.insert(field.name.clone(), text.clone().into())),
                None if field.optional => {}
                None => {
                    drop(fields.insert(field.name.clone(), export.variable(record, &field.name)))
                }
            }
        }
        let fields = (!fields.is_empty()).then(|| ("fields".to_owned(), fields.into()));
        Ok(fields.into_iter().collect())
    }
}

impl Exported for Agent {
    fn omission_reason(record: &Record<Self>) -> Option<&'static str> {
        record.facts.paused.then_some(LEFT_THE_FILE)
    }

    fn lost(record: &Record<Self>) -> Vec<&'static str> {
        let owned = record.facts.owner.as_ref().map(|_| OWNED);
        owned.into_iter().chain(record.facts.held.then_some(PAUSED)).collect()
    }

    async fn extra_members(
        export: &mut Export<'_>,
        record: &Record<Self>,
    ) -> Result<Map<String, Value>, ApiError> {
        let mut bindings: Vec<_> = record.facts.bindings.iter().filter(|it| it.direct).collect();
        bindings.sort_by_key(|it| (it.created, it.connection.as_str()));
        let connection = |id| export.view.connection(&record.org, id);
        let uses = bindings.iter().filter_map(|it| {
            let name = connection(&it.connection)?.name();
            let mut item = json!(&it.limits);
            item["connection"] = json!(name);
            Some(if it.limits.is_empty() { json!(name) } else { item })
        });
        let uses: Vec<Value> = uses.collect();
        // Of several defaults of a provider, the latest counts.
        let mut preferred: Vec<_> = bindings.iter().filter(|it| it.preferred.is_some()).collect();
        preferred.sort_by_key(|it| std::cmp::Reverse(it.preferred));
        let mut providers = BTreeSet::new();
        let defaults: Vec<Value> = preferred
            .iter()
            .filter_map(|it| connection(&it.connection))
            .filter(|it| providers.insert(it.provider.as_str()))
            .map(|it| json!(it.name()))
            .collect();
        let lists = [("use", uses), ("defaults", defaults)];
        let lists = lists.into_iter().filter(|(_, names)| !names.is_empty());
        Ok(lists.map(|(key, names)| (key.to_owned(), json!(names))).collect())
    }
}

impl Exported for Plugin {
    fn omission_reason(record: &Record<Self>) -> Option<&'static str> {
        record.facts.paused.then_some(LEFT_THE_FILE)
    }
}

impl Exported for Webhook {
    fn omission_reason(record: &Record<Self>) -> Option<&'static str> {
        let is_of_file = record.managed_by == ManagedBy::File;
        (record.facts.state == WebhookState::Paused && is_of_file).then_some(LEFT_THE_FILE)
    }

    fn lost(record: &Record<Self>) -> Vec<&'static str> {
        (record.facts.state == WebhookState::Paused).then_some(PAUSED).into_iter().collect()
    }

    async fn extra_members(
        export: &mut Export<'_>,
        record: &Record<Self>,
    ) -> Result<Map<String, Value>, ApiError> {
        let key = export.variable(record, "signing_key");
        Ok(Map::from_iter([("signing_key".to_owned(), key)]))
    }
}

impl Exported for Hook {
    fn omission_reason(record: &Record<Self>) -> Option<&'static str> {
        let is_of_file = record.managed_by == ManagedBy::File;
        (record.facts.paused && is_of_file).then_some(LEFT_THE_FILE)
    }

    fn lost(record: &Record<Self>) -> Vec<&'static str> {
        record.facts.paused.then_some(PAUSED).into_iter().collect()
    }

    async fn extra_members(
        export: &mut Export<'_>,
        record: &Record<Self>,
    ) -> Result<Map<String, Value>, ApiError> {
        let secret = export.context.deps().inbox.secret_status(record).await?;
        let keys = [("secret", secret.is_known), ("signing_key", !record.is_queue())];
        let keys = keys.into_iter().filter(|(_, is_there)| *is_there);
        Ok(keys.map(|(key, _)| (key.to_owned(), export.variable(record, key))).collect())
    }
}

impl Exported for Source {
    async fn extra_members(
        export: &mut Export<'_>,
        record: &Record<Self>,
    ) -> Result<Map<String, Value>, ApiError> {
        // The variables of `env` are named in the spec.
        if record.facts.credentials.is_empty() || record.spec.kind_id() == "env" {
            return Ok(Map::new());
        }
        let mut credentials = Map::new();
        for name in &record.facts.credentials {
            credentials.insert(name.clone(), export.variable(record, name));
        }
        Ok(Map::from_iter([("credentials".to_owned(), Value::Object(credentials))]))
    }
}

impl Exported for Honeytoken {}

impl<'a> Export<'a> {
    fn new(context: &'a Context) -> Self {
        let view = context.view();
        let org = context.caller.org();
        let mut names = BTreeMap::new();
        names.extend(named::<App>(&view, org));
        names.extend(named::<Connection>(&view, org));
        names.extend(named::<Agent>(&view, org));
        let (configuration, variables, notes) = Default::default();
        Self { context, view, names, configuration, variables, notes }
    }

    fn org(&self) -> &'a OrgId {
        self.context.caller.org()
    }

    /// Those of the configuration, and own ones, which are defined for all organisations then.
    fn providers(&mut self) {
        let org = self.org().clone();
        let mut all: Vec<Value> = self
            .context
            .deps()
            .provider_definitions
            .borrow()
            .iter()
            .map(Definition::json)
            .collect();
        let mut own: Vec<_> = self.view.all::<OwnProvider>(&org).cloned().collect();
        own.sort_by(|a, b| a.name().cmp(b.name()));
        if !own.is_empty() && org != OrgId::default_org() {
            self.notes.push("providers of a configuration are for all organisations".to_owned());
        }
        all.extend(own.into_iter().map(|it| Value::Object(it.definition.clone())));
        self.section(OwnProvider::KIND.many, all);
    }

    /// The rules of the configuration, then the stored ones, as they decide.
    fn rules(&mut self) {
        let org = self.org().clone();
        let of_file = self.context.deps().rulebook.rules();
        let of_file = of_file.iter().filter(|it| it.org == org).map(|it| it.spec.clone());
        let stored = self.view.rules_in_order(&org);
        let stored = stored.iter().map(|it| it.spec.clone());
        let all: Vec<_> = of_file.chain(stored).collect();
        let items = all.iter().map(|spec| self.item(spec, Map::new())).collect();
        self.section(Rule::KIND.many, items);
    }

    /// Those that are stored, as the configuration opens them.
    fn database_listeners(&mut self) {
        let mut all: Vec<_> = self.view.all::<DatabaseListener>(self.org()).cloned().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        let (mut items, view) = (Vec::new(), self.view.clone());
        for record in all {
            match database_listeners::declared(&record, &view) {
                Some(item) => items.push(item),
                None => self.notes.push(format!(
                    "database listener `{}` is omitted: its connection or agent was removed",
                    record.name()
                )),
            }
        }
        if !items.is_empty() {
            self.configuration.insert("listen".to_owned(), json!({ "databases": items }));
        }
    }

    async fn all<R: Exported>(&mut self) -> Result<(), ApiError> {
        let mut all: Vec<_> = self.view.all::<R>(self.org()).cloned().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()).then_with(|| a.id.as_str().cmp(b.id.as_str())));
        let mut items = Vec::new();
        for record in all {
            let (kind, name) = (R::KIND.one, record.name());
            if let Some(why) = R::omission_reason(&record) {
                self.notes.push(format!("{kind} `{name}` is omitted: it {why}"));
                continue;
            }
            self.notes
                .extend(R::lost(&record).iter().map(|lost| format!("{kind} `{name}` {lost}")));
            let extra_members = R::extra_members(self, &record).await?;
            items.push(self.item(&record.spec, extra_members));
        }
        self.section(R::KIND.many, items);
        Ok(())
    }

    fn section(&mut self, key: &str, items: Vec<Value>) {
        if !items.is_empty() {
            self.configuration.insert(key.to_owned(), items.into());
        }
    }

    /// An item of a section: the members of the spec that are not their defaults, and what stands beside.
    fn item<S>(&self, spec: &S, extra_members: Map<String, Value>) -> Value
    where
        S: Serialize + DeserializeOwned + PartialEq,
    {
        let mut item = minimal(spec);
        named_by_name(&mut item, &self.names);
        if let Value::Object(item) = &mut item {
            if *self.org() != OrgId::default_org() {
                item.insert("org".to_owned(), self.org().name().into());
            }
            item.extend(extra_members);
        }
        item
    }

    /// A reference to a new variable, which has to be set to a secret of this resource.
    fn variable<R: Resource>(&mut self, record: &Record<R>, field: &str) -> Value {
        let org = (record.org != OrgId::default_org()).then(|| record.org.name());
        let words = org.into_iter().chain([R::KIND.one, record.name(), field]);
        let name = words.map(upper).collect::<Vec<_>>().join("_");
        let is_taken = |name: &str| self.variables.iter().any(|it| it.name == name);
        // Names may differ in characters that variables do not have.
        let mut free = name.clone();
        for number in 2.. {
            if !is_taken(&free) {
                break;
            }
            free = format!("{name}_{number}");
        }
        let secret_of = format!("`{field}` of {} `{}`", R::KIND.one, record.name());
        self.variables.push(ExportVariable { name: free.clone(), secret_of });
        json!({ "env": free })
    }
}

fn named<R: Stored>(view: &View, org: &OrgId) -> Vec<(String, String)> {
    let all = view.all::<R>(org);
    all.map(|it| (it.id.as_str().to_owned(), it.name().to_owned())).collect()
}

fn upper(word: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    word.chars().map(plain).collect()
}

/// Replaces ids by names, wherever they stand.
fn named_by_name(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::String(text) => {
            if let Some(name) = names.get(text) {
                text.clone_from(name);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| named_by_name(item, names)),
        Value::Object(members) => {
            members.values_mut().for_each(|value| named_by_name(value, names));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The members without which it would not be the same spec.
fn minimal<S: Serialize + DeserializeOwned + PartialEq>(spec: &S) -> Value {
    let mut whole = serde_json::to_value(spec).unwrap_or_default();
    for path in paths(&whole, String::new()) {
        let Some((parent, key)) = path.rsplit_once('/') else { continue };
        let without = |value: &mut Value| value.pointer_mut(parent)?.as_object_mut()?.remove(key);
        let mut smaller = whole.clone();
        if without(&mut smaller).is_some()
            && serde_json::from_value::<S>(smaller.clone()).is_ok_and(|other| other == *spec)
        {
            whole = smaller;
        }
    }
    whole
}

/// The JSON pointers of all members, the outer ones first.
fn paths(value: &Value, at: String) -> Vec<String> {
    let Value::Object(members) = value else { return Vec::new() };
    let each = members.iter().filter(|(key, _)| !key.contains(['/', '~']));
    let each: Vec<_> = each.map(|(key, value)| (format!("{at}/{key}"), value)).collect();
    let outer = each.iter().map(|(path, _)| path.clone());
    outer.chain(each.iter().flat_map(|(path, value)| paths(value, path.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_model::{AgentSpec, RuleSpec};

    #[test]
    fn an_export_contains_only_values_that_differ_from_their_default() {
        let agent = AgentSpec { allow: Some(Vec::new()), ..AgentSpec::named("ci") };
        assert_eq!(minimal(&agent), json!({ "name": "ci", "allow": [] }));
        let rule = RuleSpec { methods: vec!["GET".to_owned()], ..RuleSpec::default() };
        assert_eq!(minimal(&rule), json!({ "methods": ["GET"] }));
    }

    #[test]
    fn ids_become_names_at_any_depth() {
        let names = BTreeMap::from([("con_1".to_owned(), "work".to_owned())]);
        let mut value = json!({ "use": "con_1", "slots": { "a": "con_1", "b": "con_2" } });
        named_by_name(&mut value, &names);
        assert_eq!(value, json!({ "use": "work", "slots": { "a": "work", "b": "con_2" } }));
    }
}
