//! `/agents/{id}/bindings`: which connections an agent may use, and the placeholders it holds for
//! them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::Json;
use http::StatusCode;

use crate::body::{Body, Params, Segments};
use crate::connections::file::ConnectionFile;
use crate::context::Context;
use crate::error::ApiError;
use crate::etag::IfMatch;
use crate::openapi::Routes;
use crate::page::Page;
use crate::resource;
use crate::wire::List;
use keyward_base::id::ConnectionId;
use keyward_model::{
    Agent, BindTerms, BindingLimits, BindingPatch, BindingShown, BindingSpec, BoundSlot,
    LimitsChange, unknown_action,
};
use keyward_rules::provider::{Catalogue, Field};
use keyward_state::directory::{AgentRecord, BindingRecord, ConnectionRecord, ManagedBy, View};

pub(crate) fn routes() -> Routes {
    Routes::new()
        .get("/agents/{agent}/bindings", ["listBindings", "List the bindings of an agent"], list)
        .post("/agents/{agent}/bindings", ["bind", "Permit an agent to use a connection"], bind)
        .patch(
            "/agents/{agent}/bindings/{connection}",
            ["limitBinding", "Limit a binding to named actions"],
            limit,
        )
        .delete(
            "/agents/{agent}/bindings/{connection}",
            ["unbind", "End the permission of an agent to use a connection"],
            unbind,
        )
}

/// The connections of an agent that requests use which select none.
pub(crate) struct Defaults(HashSet<ConnectionId>);

impl Defaults {
    /// Of each host, the first direct binding; of each provider whose connections have no hosts, the one that a person
    /// made the default.
    pub(crate) fn of(context: &Context, agent: &AgentRecord) -> Self {
        let (directory, rulebook) = (context.view(), &context.deps().rulebook);
        let (mut places, mut defaults) = (HashSet::new(), HashSet::new());
        let all = agent.facts.by_preference().into_iter().filter(|binding| binding.direct);
        for binding in all.filter(|_| !agent.require_selection) {
            let Some(connection) = directory.connection(&agent.org, &binding.connection) else {
                continue;
            };
            let account = rulebook.account(connection);
            let is_chosen = account.hosts.is_empty() && binding.preferred.is_some();
            if is_chosen && places.insert((connection.provider.clone(), Vec::new())) {
                defaults.insert(binding.connection.clone());
            }
            let paths: Vec<_> = account.paths.iter().map(ToString::to_string).collect();
            for host in account.hosts.iter() {
                if places.insert((host.to_string(), paths.clone())) {
                    defaults.insert(binding.connection.clone());
                }
            }
        }
        Self(defaults)
    }
}

/// A binding as shown, or `None` while its connection is being removed, or before it is in a slot.
pub(crate) async fn shown(
    context: &Context,
    agent: &AgentRecord,
    binding: &BindingRecord,
    Defaults(defaults): &Defaults,
) -> Option<BindingShown> {
    let (connection, slots) = {
        let directory = context.view();
        let connection = directory.connection(&agent.org, &binding.connection)?.clone();
        (connection, slots(&directory, agent, binding))
    };
    if !binding.direct && slots.is_empty() {
        return None;
    }
    let held = binding.placeholders.iter();
    let text = held.map(|(field, placeholder)| (field.to_owned(), placeholder.as_str().to_owned()));
    let placeholders: BTreeMap<_, _> = text.collect();
    Some(BindingShown {
        connection: connection.id.clone(),
        name: connection.name.clone(),
        provider: connection.provider.clone(),
        managed_by: binding.managed_by,
        created: binding.created,
        env: variables(context, &connection, &placeholders).await,
        placeholders,
        slots,
        direct: binding.direct,
        default: defaults.contains(&binding.connection),
        limits: binding.limits.clone(),
    })
}

/// The slots of the agent's plugins that the connection is in.
fn slots(directory: &View, agent: &AgentRecord, binding: &BindingRecord) -> Vec<BoundSlot> {
    let plugins = directory.plugins_of(&agent.org, &agent.id);
    let each = plugins.filter(|plugin| !plugin.facts.paused).flat_map(|plugin| {
        let slots = plugin.slots_with(&binding.connection);
        slots.map(|slot| BoundSlot { plugin: plugin.name().to_owned(), slot: slot.slot.clone() })
    });
    each.collect()
}

/// The bindings of an agent that [`shown`] shows.
pub(crate) async fn all_shown(context: &Context, agent: &AgentRecord) -> Vec<BindingShown> {
    let defaults = Defaults::of(context, agent);
    let mut all = Vec::new();
    for binding in &agent.facts.bindings {
        all.extend(shown(context, agent, binding, &defaults).await);
    }
    all
}

/// The variables that the provider's SDKs read. A secret field gives its placeholder. A field of a built-in
/// provider that is not secret, such as an account id, gives its value, unless the grant cannot be opened.
async fn variables(
    context: &Context,
    connection: &ConnectionRecord,
    placeholders: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let vault = &context.deps().vault;
    let catalogue = vault.catalogue(&connection.org);
    let provider = catalogue.get(&connection.provider);
    let auth = provider.and_then(|provider| provider.auth(connection.auth.as_deref()));
    let (Some(provider), Some(auth)) = (provider, auth) else { return BTreeMap::new() };
    if let Some(file) = ConnectionFile::of(&context.admin, connection).await {
        return file.variables(&context.admin, connection).await;
    }
    // The owner of a connection chooses the value, and for an own provider anybody who may add one the variable.
    let built_in = Catalogue::built_in();
    let is_built_in = built_in.get(&provider.id).is_some_and(|it| Arc::ptr_eq(it, provider));
    let is_open = |field: &Field| !field.secret && !field.env.is_empty();
    let values = match is_built_in && auth.fields.iter().any(is_open) {
        true => vault.grants().shown_fields(connection).await.unwrap_or_default(),
        false => BTreeMap::new(),
    };
    let held = auth.carried().map(|field| (field, placeholders.get(&field.name)));
    // A line break would inject another variable into an env file.
    let is_one_line = |text: &&String| !text.chars().any(char::is_control);
    let open = auth.fields.iter();
    let open = open.map(|field| (field, values.get(&field.name).filter(is_one_line)));
    let named = held.chain(open).filter_map(|(field, text)| Some((field, text?)));
    named.flat_map(|(field, text)| field.env.iter().map(|v| (v.clone(), text.clone()))).collect()
}

async fn list(
    context: Context,
    Segments(agent): Segments<String>,
    Params(page): Params<Page>,
) -> Result<Json<List<BindingShown>>, ApiError> {
    let agent = resource::found::<Agent>(&context, &agent)?;
    let shown = all_shown(&context, &agent).await;
    let wanted =
        shown.into_iter().filter(|b| page.wants(&[&b.name, &b.provider, b.connection.as_str()]));
    page.cut(wanted.collect(), |binding: &BindingShown| &binding.name).map(Json)
}

async fn bind(
    context: Context,
    Segments(agent): Segments<String>,
    Body(new): Body<BindingSpec>,
) -> Result<(StatusCode, Json<BindingShown>), ApiError> {
    let Context { admin, caller } = &context;
    let agent = resource::found::<Agent>(&context, &agent)?;
    let connection = context.connection(new.connection.as_str());
    let connection = connection.map_err(|error| error.in_field("connection"))?;
    caller.because(format!("connection {}", connection.name));
    let (org, vault) = (caller.org(), &admin.deps().vault);
    let own_authorization = new.own_authorization;
    let limits = LimitsChange { allow: new.allow, deny: new.deny, own_authorization };
    check_limits(&context, &connection, &limits)?;
    let terms = BindTerms { managed_by: ManagedBy::Store, limits };
    let mut binding = vault.lifecycle().bind(org, &agent.id, &connection.id, terms).await?;
    if new.default {
        binding = admin.deps().directory.make_default(org, &agent.id, &connection.id).await?;
    }
    admin.enforce().await?;
    let agent = resource::found::<Agent>(&context, agent.id.as_str())?;
    let shown = shown(&context, &agent, &binding, &Defaults::of(&context, &agent)).await;
    let shown = shown.ok_or_else(|| ApiError::not_found("connection", new.connection.as_str()))?;
    Ok((StatusCode::CREATED, Json(shown)))
}

/// Checks that the connection's provider has the actions. An empty list could be read as "none" or as "all".
fn check_limits(
    context: &Context,
    connection: &ConnectionRecord,
    limits: &LimitsChange,
) -> Result<(), ApiError> {
    let catalogue = context.deps().vault.catalogue(&connection.org);
    let Some(provider) = catalogue.get(&connection.provider) else { return Ok(()) };
    for (key, names) in [("allow", &limits.allow), ("deny", &limits.deny)] {
        let Some(names) = names else { continue };
        if names.is_empty() {
            return Err(ApiError::field(key, "must name an action, or be absent"));
        }
        let list = BindingLimits { allow: names.clone(), ..BindingLimits::default() };
        if let Some((name, near)) = list.unknown(provider).first() {
            let (message, remedy) = unknown_action(provider, name, *near);
            return Err(ApiError::field(key, format!("{message}; {remedy}")));
        }
    }
    Ok(())
}

/// A binding has no tag of its own: `If-Match` takes that of the agent.
async fn limit(
    context: Context,
    Segments((agent, connection)): Segments<(String, String)>,
    if_match: IfMatch,
    Body(patch): Body<BindingPatch>,
) -> Result<Json<BindingShown>, ApiError> {
    let admin = &context.admin;
    let agent = resource::found::<Agent>(&context, &agent)?;
    let connection = context.connection(&connection)?;
    context.caller.because(format!("connection {}", connection.name));
    let (allow, deny) = (patch.allow.clone().flatten(), patch.deny.clone().flatten());
    let lists = LimitsChange { allow, deny, own_authorization: None };
    check_limits(&context, &connection, &lists)?;
    let is_wanted = move |agent: &AgentRecord| if_match.allows_record(agent);
    let directory = &admin.deps().directory;
    let binding = directory.limit_binding(&agent, &connection.id, patch.into(), is_wanted).await?;
    admin.enforce().await?;
    let agent = resource::found::<Agent>(&context, agent.id.as_str())?;
    let shown = shown(&context, &agent, &binding, &Defaults::of(&context, &agent)).await;
    shown.ok_or_else(|| ApiError::not_found("binding", &connection.name)).map(Json)
}

async fn unbind(
    context: Context,
    Segments((agent, connection)): Segments<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let Context { admin, caller } = &context;
    let agent = resource::found::<Agent>(&context, &agent)?;
    let connection = context.connection(&connection)?;
    caller.because(format!("connection {}", connection.name));
    if agent.facts.binding(&connection.id).is_none() {
        return Err(ApiError::not_found("binding", &connection.name));
    }
    admin.deps().directory.unbind(caller.org(), &agent.id, &connection.id).await?;
    admin.enforce().await?;
    Ok(StatusCode::NO_CONTENT)
}
