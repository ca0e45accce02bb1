//! `/providers`: what services are known, and the form that each way to authenticate asks for.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

use super::body::{Params, Segments};
use super::error::ApiError;
use super::page::Page;
use super::state::Admin;
use super::wire::{AuthView, FieldView, List, ProviderView, VariableView};
use keyward_rules::provider::{AuthMethod, Field, Provider, Variable};

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/providers", get(list)).route("/providers/{provider}", get(show))
}

async fn list(
    State(admin): State<Admin>,
    Params(page): Params<Page>,
) -> Result<Json<List<ProviderView>>, ApiError> {
    let wants = |provider: &Provider| {
        page.wants(&[&provider.id, &provider.name, provider.category.as_deref().unwrap_or("")])
    };
    let catalogue = admin.deps().vault.catalogue();
    let wanted = catalogue.all().filter(|provider| wants(provider));
    let page = page.cut(wanted.collect(), |provider| &provider.id)?;
    Ok(Json(page.map(|provider| ProviderView::from(&**provider))))
}

async fn show(
    State(admin): State<Admin>,
    Segments(id): Segments<String>,
) -> Result<Json<ProviderView>, ApiError> {
    let catalogue = admin.deps().vault.catalogue();
    let provider = catalogue.get(&id);
    let provider = provider.ok_or_else(|| {
        let known = catalogue.all().map(|provider| &*provider.id);
        ApiError::not_found_among("provider", &id, known)
    })?;
    Ok(Json(ProviderView::from(&**provider)))
}

impl From<&Provider> for ProviderView {
    fn from(provider: &Provider) -> Self {
        // The others come from the service's own answers.
        let asked = provider.variables.iter().filter(|variable| !variable.captured);
        Self {
            id: provider.id.to_string(),
            name: provider.name.clone(),
            category: provider.category.clone(),
            hosts: provider.hosts.iter().map(ToString::to_string).collect(),
            variables: asked.map(VariableView::from).collect(),
            auth: provider.auth.iter().map(AuthView::from).collect(),
            templates: provider.about.templates.clone(),
            docs_url: provider.about.docs_url.clone(),
            key_url: provider.about.key_url.clone(),
        }
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

impl From<&AuthMethod> for AuthView {
    fn from(auth: &AuthMethod) -> Self {
        Self {
            id: auth.id.clone(),
            kind: auth.kind,
            label: auth.label.clone(),
            note: auth.note.clone(),
            supported: auth.later.is_none(),
            fields: auth.fields.iter().map(FieldView::from).collect(),
        }
    }
}

impl From<&Field> for FieldView {
    fn from(field: &Field) -> Self {
        Self {
            name: field.name.clone(),
            label: field.label.clone(),
            help: field.help.clone(),
            secret: field.secret,
            optional: field.optional,
            env: field.env.clone(),
            prefixes: field.prefixes.clone(),
            length: field.length,
            pattern: field.pattern.as_ref().map(|shape| shape.as_str().to_owned()),
        }
    }
}
