//! `/providers`: the known services with the form of each way to authenticate; own ones are added, changed and removed.

use std::sync::Arc;

use axum::Json;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::body::{Body, Params, Segments};
use super::context::Context;
use super::error::ApiError;
use super::etag::{Etag, IfMatch, TaggedAnswer};
use super::openapi::Routes;
use super::page::Page;
use super::resource;
use super::resource::remove_stored;
use super::wire::{
    ActionView, AuthView, FieldView, List, ProviderSource, ProviderView, VariableView,
};
use keyward_base::pattern::HostPattern;
use keyward_model::{ManagedBy, NoMembers, OwnProvider, OwnProviderSpec, Record};
use keyward_rules::provider::document::Problem;
use keyward_rules::provider::{
    AuthMethod, Catalogue, CatalogueEntry, Field, NamedAction, Provider, Variable,
};

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/providers", ["listProviders", "List providers"], list)
        .post("/providers", ["addProvider", "Add an own provider"], add)
        .get("/providers/{provider}", ["getProvider", "Show a provider"], show)
        .put("/providers/{provider}", ["changeProvider", "Change an own provider"], change)
        .delete("/providers/{provider}", ["removeProvider", "Remove an own provider"], remove)
}

/// The query of the list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Search {
    /// Part of an id, name or category, any case; or a host of its API, or a URL there.
    q: Option<String>,
    /// A category, such as `llm`.
    category: Option<String>,
    /// Items wanted.
    #[schemars(range(min = 1, max = 1_000))]
    limit: Option<usize>,
    /// `next` of the page before.
    after: Option<String>,
}

async fn list(
    context: Context,
    Params(asked): Params<Search>,
) -> Result<Json<List<ProviderView>>, ApiError> {
    let Search { category, q, limit, after } = asked;
    let host = q.as_deref().and_then(host_of);
    let page = Page::of(q, limit, after);
    let wants = |entry: &CatalogueEntry<'_>| {
        let of = entry.category().unwrap_or_default();
        category.as_deref().is_none_or(|category| category == of)
            && (page.wants(&[entry.id(), entry.name(), of])
                || host.as_ref().is_some_and(|host| entry.has_host(host)))
    };
    let catalogue = catalogue(&context);
    let wanted = catalogue.entries().filter(wants);
    let page = page.cut(wanted.collect(), |entry| entry.id())?;
    Ok(Json(page.map(|entry| view(&context, entry.provider()))))
}

/// The host of a URL, or a host itself; `None` for other words.
fn host_of(text: &str) -> Option<HostPattern> {
    let rest = text.trim().split_once("://").map_or(text.trim(), |(_, rest)| rest);
    let host = rest.split(['/', ':', '?', '#']).next()?;
    host.contains('.').then(|| HostPattern::parse(host).ok()).flatten()
}

async fn show(
    context: Context,
    Segments(id): Segments<String>,
) -> Result<TaggedAnswer<ProviderView>, ApiError> {
    let catalogue = catalogue(&context);
    let provider = catalogue.get(&id).ok_or_else(|| unknown(&catalogue, &id))?;
    let directory = context.view();
    let stored = directory.find::<OwnProvider>(context.caller.org(), &provider.id);
    let etag = stored.map(|stored| Etag::of(stored));
    let definition = stored.map(|stored| stored.definition.clone());
    let definition = definition.or_else(|| of_file(&context, &provider.id));
    Ok(TaggedAnswer { etag, body: ProviderView { definition, ..view(&context, provider) } })
}

/// The definition of a provider of the configuration.
fn of_file(context: &Context, id: &str) -> Option<Map<String, Value>> {
    let all = context.deps().provider_definitions.borrow();
    match all.iter().find(|it| it.id() == Some(id))?.json() {
        Value::Object(definition) => Some(definition),
        _ => None,
    }
}

/// The body is a provider as under `providers:` of the configuration.
async fn add(
    context: Context,
    Body(definition): Body<Map<String, Value>>,
) -> Result<(StatusCode, Json<ProviderView>), ApiError> {
    let Context { admin, caller } = &context;
    let (spec, known) = (OwnProviderSpec::new(definition), catalogue(&context));
    if known.get(&spec.name).is_some() {
        return Err(id_taken(&context, spec.name));
    }
    let provider = spec.provider(&known).map_err(|problems| refused(&problems))?;
    refuse_taken_hosts(&known, &provider)?;
    let directory = &admin.deps().directory;
    let made =
        directory.add::<OwnProvider>(caller.org(), ManagedBy::Store, spec, NoMembers {}).await?;
    caller.record_changed("provider", &made.id, made.name());
    admin.enforce().await?;
    Ok((StatusCode::CREATED, Json(view(&context, &provider))))
}

/// The refusal of an id that a provider has; one that is stored can be changed instead.
fn id_taken(context: &Context, name: String) -> ApiError {
    let is_stored = context.view().find::<OwnProvider>(context.caller.org(), &name).is_some();
    let refusal = ApiError::Taken { what: "provider", name };
    match is_stored {
        true => ApiError::from(
            refusal.text().hint("`keyward provider set FILE` changes it; or choose another id"),
        ),
        false => refusal,
    }
}

/// Refuses hosts of another provider.
fn refuse_taken_hosts(others: &Catalogue, provider: &Provider) -> Result<(), ApiError> {
    match others.host_owner(&provider.hosts) {
        None => Ok(()),
        Some((owner, host)) => Err(ApiError::refused(format!(
            "{host} belongs to provider `{}` ({})",
            owner.id(),
            owner.name()
        ))
        .hint(format!("connect an account there: keyward connect {}", owner.id()))),
    }
}

/// The body is the whole definition. While connections or apps use the provider, the directory refuses a change of what
/// decides where their secrets are sent.
async fn change(
    context: Context,
    Segments(id): Segments<String>,
    if_match: IfMatch,
    Body(definition): Body<Map<String, Value>>,
) -> Result<Json<ProviderView>, ApiError> {
    let Context { admin, caller } = &context;
    let found = own(&context, id)?;
    let spec = OwnProviderSpec::new(definition);
    // A later version of Keyward may have one with its id as well.
    let none = Catalogue::default();
    let provider = spec.provider(&none).map_err(|problems| refused(&problems))?;
    let before = found.provider(&none).ok();
    if before.is_none_or(|before| before.hosts != provider.hosts) {
        refuse_taken_hosts(&catalogue(&context).without(found.name()), &provider)?;
    }
    let edit = |record: &mut Record<OwnProvider>| -> Result<(), ApiError> {
        if_match.check(record)?;
        record.spec = spec.clone();
        Ok(())
    };
    admin.deps().directory.edit(caller.org(), &found.id, &edit).await?;
    admin.enforce().await?;
    Ok(Json(view(&context, &provider)))
}

/// The stored provider with this id; refuses others.
fn own(context: &Context, id: String) -> Result<Arc<Record<OwnProvider>>, ApiError> {
    let caller = &context.caller;
    let Some(found) = context.view().find::<OwnProvider>(caller.org(), &id).cloned() else {
        let catalogue = catalogue(context);
        let provider = catalogue.get(&id).ok_or_else(|| unknown(&catalogue, &id))?;
        return Err(match source(context, provider) {
            ProviderSource::File => ApiError::ManagedByFile { what: "provider", name: id },
            _ => ApiError::refused(format!(
                "provider `{id}` is built into Keyward: it cannot be changed or removed"
            )),
        });
    };
    caller.record_changed("provider", &found.id, found.name());
    Ok(found)
}

async fn remove(
    context: Context,
    Segments(id): Segments<String>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    let found = own(&context, id)?;
    resource::may_be_removed(&context.admin, &found).await?;
    remove_stored(&context, &found, if_match).await?;
    context.admin.enforce().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The providers that the caller's organisation has.
fn catalogue(context: &Context) -> Arc<Catalogue> {
    context.deps().vault.catalogue(context.caller.org())
}

/// Suggests a provider with a similar id, or the first one with that host.
fn unknown(catalogue: &Catalogue, id: &str) -> ApiError {
    let of_host =
        host_of(id).and_then(|host| catalogue.entries().find(|entry| entry.has_host(&host)));
    match of_host {
        Some(entry) => ApiError::not_found_near("provider", id, Some(entry.id())),
        None => ApiError::not_found_among("provider", id, catalogue.ids()),
    }
}

fn refused(problems: &[Problem]) -> ApiError {
    let field = problems.first().map_or("", |problem| &problem.path);
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    ApiError::field(field, lines.join(" | "))
}

fn view(context: &Context, provider: &Provider) -> ProviderView {
    let managed_by = Some(source(context, provider));
    ProviderView { managed_by, ..ProviderView::from(provider) }
}

fn source(context: &Context, provider: &Provider) -> ProviderSource {
    let is_stored =
        context.view().find::<OwnProvider>(context.caller.org(), &provider.id).is_some();
    match Catalogue::built_in().get(&provider.id) {
        _ if is_stored => ProviderSource::Store,
        Some(_) => ProviderSource::Catalogue,
        None => ProviderSource::File,
    }
}

impl From<&Provider> for ProviderView {
    fn from(provider: &Provider) -> Self {
        // The others come from the service's own answers.
        let asked = provider.variables.iter().filter(|variable| !variable.captured);
        // An MCP server registers its app itself.
        let is_mcp = provider.about.mcp.is_some();
        let auth = |auth: &AuthMethod| AuthView {
            needs_app: auth.needs_app() && !is_mcp,
            ..AuthView::of(provider, auth)
        };
        Self {
            id: provider.id.to_string(),
            name: provider.name.clone(),
            category: provider.category.clone(),
            protocol: provider.protocol,
            hosts: provider.hosts.iter().map(ToString::to_string).collect(),
            variables: asked.map(VariableView::from).collect(),
            auth: provider.auth.iter().map(auth).collect(),
            actions: provider.actions().iter().map(ActionView::from).collect(),
            templates: provider.about.templates.clone(),
            scope_words: provider.about.scope_words.clone(),
            docs_url: provider.about.docs_url.clone(),
            key_url: provider.about.key_url.clone(),
            mcp: provider.about.mcp.clone(),
            managed_by: None,
            definition: None,
        }
    }
}

impl From<&NamedAction> for ActionView {
    fn from(action: &NamedAction) -> Self {
        Self { name: action.name.clone(), label: action.label.clone() }
    }
}

impl From<&Variable> for VariableView {
    fn from(variable: &Variable) -> Self {
        Self {
            name: variable.name.clone(),
            kind: variable.kind,
            label: variable.label.clone(),
            help: variable.help.clone(),
            example: variable.example.clone(),
            default: variable.default.clone(),
            choices: variable.choices.clone(),
        }
    }
}

impl AuthView {
    /// The view of `auth`, a method of `provider`.
    pub(super) fn of(provider: &Provider, auth: &AuthMethod) -> Self {
        Self {
            id: auth.id.clone(),
            kind: auth.kind,
            label: auth.label.clone(),
            note: auth.note.clone(),
            consents: auth.is_consented_to(),
            needs_app: auth.needs_app(),
            has_test: provider.has_test(auth),
            app_url: auth.app_url.clone(),
            app_steps: auth.app_steps.clone(),
            apps_of: auth.oauth.as_ref().and_then(|oauth| oauth.apps_of.clone()),
            fields: auth.fields.iter().map(|field| FieldView::of(auth, field)).collect(),
        }
    }
}

impl FieldView {
    fn of(auth: &AuthMethod, field: &Field) -> Self {
        Self {
            name: field.name.clone(),
            label: field.label.clone(),
            help: field.help.clone(),
            secret: field.secret,
            multiline: auth.is_multiline(field),
            optional: field.optional,
            from_source: field.from_source,
            env: field.env.clone(),
            prefixes: field.prefixes.clone(),
            length: field.length,
            pattern: field.pattern.as_ref().map(|shape| shape.as_str().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_found_by_a_host_of_its_api_or_a_url_there() {
        let catalogue = Catalogue::built_in();
        let found = |text: &str| -> Vec<String> {
            let Some(host) = host_of(text) else { return Vec::new() };
            let entries = catalogue.entries().filter(|entry| entry.has_host(&host));
            entries.map(|entry| entry.id().to_string()).collect()
        };
        assert_eq!(found("api.openai.com"), ["openai"]);
        assert!(found(" https://api.github.com:443/user?a=b ").contains(&"github".to_owned()));
        for (host, id) in [
            ("acme.zendesk.com", "zendesk"),
            ("https://acme.my.salesforce.com/services", "salesforce"),
            ("api.eu.mailgun.net", "mailgun"),
            ("api.datadoghq.eu", "datadog"),
            ("acme.atlassian.net", "jira"),
        ] {
            assert!(found(host).contains(&id.to_owned()), "{host}: {:?}", found(host));
        }
        for other in ["openai", "api", "https://", "api.github.com.evil.test", "a b.c", ""] {
            assert_eq!(found(other), [""; 0], "{other}");
        }
    }
}
