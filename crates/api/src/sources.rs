//! `/sources`: secret sources. Only admins and auditors see them: a user of one value must not see what else a source
//! holds.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;

use super::body::{Body, Segments};
use super::context::Context;
use super::error::ApiError;
use super::input::{Input, InputChange};
use super::openapi::Routes;
use super::resource::{self, Changeable, Exposed};
use super::wire::{SourceTest, SourceTested, TestedReference};
use keyward_base::secret::Secret;
use keyward_model::{ManagedBy, Record, Shown, Source, SourceOptions, SourceShown};

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/sources", ["listSources", "List secret sources"], resource::list::<Source>)
        .post("/sources", ["addSource", "Add a secret source"], resource::add::<Source>)
        .get("/sources/{source}", ["getSource", "Show a secret source"], resource::show::<Source>)
        .patch(
            "/sources/{source}",
            ["changeSource", "Change a secret source"],
            resource::change::<Source>,
        )
        .delete(
            "/sources/{source}",
            ["removeSource", "Remove a secret source that no connection or app names"],
            resource::remove::<Source>,
        )
        .post(
            "/sources/{source}/test",
            ["testSource", "Fetch values of a secret source, without showing them"],
            test,
        )
}

impl Exposed for Source {
    type Added = Shown<Self>;

    fn texts<'a>(_: &'a Context, record: &'a Record<Self>) -> Vec<Cow<'a, str>> {
        vec![record.spec.kind_id().into()]
    }

    fn sees(context: &Context, _: &Record<Self>) -> bool {
        context.caller.sees_all()
    }

    async fn shown_facts(context: &Context, record: &Record<Self>) -> SourceShown {
        let health = context.deps().vault.sources().health(&record.id);
        let view = context.view();
        let connections = view.connections_of_source(&record.org, record.name());
        let mut connections: Vec<_> = connections.map(|it| it.name.clone()).collect();
        connections.sort_unstable();
        let apps = view.apps_of_source(&record.org, record.name());
        let mut apps: Vec<_> = apps.map(|it| it.name.clone()).collect();
        apps.sort_unstable();
        SourceShown {
            kind: record.spec.kind_id().to_owned(),
            credentials: record.facts.credentials.clone(),
            connections,
            apps,
            fetched: health.fetched,
            kept_until: health.fetched.and_then(|at| {
                at.checked_add(record.spec.ttl()).ok()?.checked_add(record.spec.keep()).ok()
            }),
            failing: health.failing,
        }
    }

    async fn add(context: &Context, input: Input<Self>) -> Result<Shown<Self>, ApiError> {
        let (lifecycle, org) = (context.deps().vault.lifecycle(), context.caller.org());
        let (credentials, by) = (credentials(input.options).unwrap_or_default(), ManagedBy::Store);
        let made = lifecycle.add_source(org, input.spec, &credentials, by).await?;
        context.caller.record_changed("source", &made.id, made.name());
        Ok(resource::shown(context, &*made).await)
    }

    async fn removed(context: &Context, record: &Record<Self>) -> Result<(), ApiError> {
        Ok(context.deps().vault.lifecycle().forget_source(&record.org, &record.id).await?)
    }
}

impl Changeable for Source {
    type Changed = Shown<Self>;

    async fn change(
        context: &Context,
        record: Arc<Record<Self>>,
        change: InputChange<Self>,
    ) -> Result<Shown<Self>, ApiError> {
        let edit = |record: &mut Record<Self>| -> Result<(), ApiError> {
            change.if_match.check(record)?;
            record.spec = change.of(&record.spec)?;
            Ok(())
        };
        let given = change.options.credentials.as_ref().map(|it| it.0.clone());
        let changed = context.deps().vault.lifecycle().change_source(&record, &edit, given).await?;
        Ok(resource::shown(context, &*changed).await)
    }
}

fn credentials(options: SourceOptions) -> Option<BTreeMap<String, Secret>> {
    options.credentials.map(|it| it.0)
}

/// Fetches one value, or all that connections have there. Answers whether that worked, never with a value.
async fn test(
    context: Context,
    Segments(name): Segments<String>,
    Body(asked): Body<SourceTest>,
) -> Result<Json<SourceTested>, ApiError> {
    let source = resource::found::<Source>(&context, &name)?;
    let view = context.view();
    let mut references: BTreeSet<String> = asked.reference.into_iter().collect();
    if references.is_empty() {
        let (org, name) = (&source.org, source.name());
        let used = view.connections_of_source(org, name).flat_map(|it| it.references.values());
        let of_apps = view.apps_of_source(org, name).flat_map(|it| it.references.values());
        let used = used.chain(of_apps);
        let used = used.filter(|it| it.from == source.name());
        references = used.map(|it| it.reference.clone()).collect();
    }
    if references.is_empty() {
        let message = "is required: no connection or app has a value there";
        return Err(ApiError::field("ref", message).hint("name a value to fetch"));
    }
    let mut tested = Vec::with_capacity(references.len());
    for reference in references {
        let result = context.deps().vault.refresh().test_source(&source, &reference).await;
        let error = result.err();
        tested.push(TestedReference {
            reference,
            ok: error.is_none(),
            hint: error.as_ref().and_then(|it| it.hint()).map(ToOwned::to_owned),
            error: error.map(|it| it.to_string()),
        });
    }
    Ok(Json(SourceTested { ok: tested.iter().all(|it| it.ok), tested }))
}
