//! Handlers of resources that the directory keeps generically: list, show, add, change and remove. Only callers who
//! may change everything may assign another owner to a new one, and none can remove or rename what the
//! configuration names: no gateway would start with that configuration again.

use std::borrow::Cow;
use std::future::{self, Future};
use std::sync::Arc;

use axum::Json;
use futures_util::future::join_all;
use http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;

use super::body::{Params, Segments};
use super::context::Context;
use super::error::ApiError;
use super::etag::{Etag, IfMatch, TaggedAnswer};
use super::input::{Input, InputChange};
use super::page::Page;
use super::state::{Admin, Deps};
use super::wire::List;
use keyward_base::id::{Id, UserId};
use keyward_model::{ManagedBy, Record, Resource, Shown, User};
use keyward_state::directory::{Stored, Visibility};
use keyward_state::rulebook::ConfigMention;

/// A resource of the API.
pub(super) trait Exposed: Stored {
    /// The answer to a request that adds one: usually [`Shown`], with what is shown only once.
    type Added: Serialize + Send;

    /// Texts that a search matches, in addition to the name and the id.
    fn texts<'a>(_: &'a Context, _: &'a Record<Self>) -> Vec<Cow<'a, str>> {
        Vec::new()
    }

    /// What lists are ordered by. It is unique.
    fn cursor(record: &Record<Self>) -> &str {
        record.name()
    }

    /// Whether it exists for the caller.
    fn sees(_: &Context, _: &Record<Self>) -> bool {
        true
    }

    /// Refuses a caller that may not write it; `None`: a new one.
    fn may_write(_: &Context, _: Option<&Record<Self>>) -> Result<(), ApiError> {
        Ok(())
    }

    /// Completes the spec: resolves names, such as that of an owner, and sets defaults.
    fn resolve(_: &Context, _spec: &mut Self::Spec) -> Result<(), ApiError> {
        Ok(())
    }

    /// What is shown beside the spec.
    fn shown_facts(
        context: &Context,
        record: &Record<Self>,
    ) -> impl Future<Output = Self::Shown> + Send;

    /// Makes one and names it in the audit log. Usually calls [`store_new`].
    fn add(
        context: &Context,
        input: Input<Self>,
    ) -> impl Future<Output = Result<Self::Added, ApiError>> + Send;

    /// Refuses a removal because of what is not stored: the configuration names it.
    fn may_be_removed(
        _: &Context,
        _: &Record<Self>,
    ) -> impl Future<Output = Result<(), ApiError>> + Send {
        future::ready(Ok(()))
    }

    /// Removes what is kept elsewhere, after the record is gone.
    fn removed(_: &Context, _: &Record<Self>) -> impl Future<Output = Result<(), ApiError>> + Send {
        future::ready(Ok(()))
    }
}

/// A resource that can be changed.
pub(super) trait Changeable: Exposed {
    /// The answer to a request that changes one: usually [`Shown`].
    type Changed: Serialize + Send;

    /// As [`Exposed::resolve`], of a changed spec. A resource that it named before and names still may be gone.
    fn resolve_change(
        context: &Context,
        _before: &Self::Spec,
        spec: &mut Self::Spec,
    ) -> Result<(), ApiError> {
        Self::resolve(context, spec)
    }

    /// Changes one. Usually calls [`store_change`].
    fn change(
        context: &Context,
        record: Arc<Record<Self>>,
        change: InputChange<Self>,
    ) -> impl Future<Output = Result<Self::Changed, ApiError>> + Send;
}

pub(super) async fn list<R: Exposed>(
    context: Context,
    Params(page): Params<Page>,
) -> Result<Json<List<Shown<R>>>, ApiError> {
    page_of(&context, &page, |_| true).await
}

/// The page of those that fit as well.
pub(super) async fn page_of<R: Exposed>(
    context: &Context,
    page: &Page,
    fits: impl Fn(&Record<R>) -> bool,
) -> Result<Json<List<Shown<R>>>, ApiError> {
    let directory = context.view();
    let wants = |it: &&Arc<Record<R>>| {
        R::sees(context, it) && fits(it) && {
            let (own, more) = ([it.name(), it.id.as_str()], R::texts(context, it));
            let texts: Vec<_> = own.into_iter().chain(more.iter().map(|text| &**text)).collect();
            page.wants(&texts)
        }
    };
    let wanted = directory.all::<R>(context.caller.org()).filter(wants);
    let page = page.cut(wanted.collect(), |it| R::cursor(it))?;
    // A store that does not answer costs the time of one.
    let shown = page.items.into_iter().map(|record| shown(context, record));
    Ok(Json(List { items: join_all(shown).await, next: page.next }))
}

pub(super) async fn show<R: Exposed>(
    context: Context,
    Segments(name): Segments<String>,
) -> Result<TaggedAnswer<Shown<R>>, ApiError> {
    let record = found::<R>(&context, &name)?;
    let etag = Some(Etag::of(&record));
    Ok(TaggedAnswer { etag, body: shown(&context, &record).await })
}

pub(super) async fn add<R: Exposed>(
    context: Context,
    mut input: Input<R>,
) -> Result<(StatusCode, Json<R::Added>), ApiError> {
    R::may_write(&context, None)?;
    R::resolve(&context, &mut input.spec)?;
    // An invalid name may be a misplaced secret, and a session may have no name.
    if R::check(&input.spec).is_ok() && !R::name(&input.spec).is_empty() {
        context.caller.record_requested_name(R::name(&input.spec));
    }
    Ok((StatusCode::CREATED, Json(R::add(&context, input).await?)))
}

pub(super) async fn change<R: Changeable>(
    context: Context,
    Segments(name): Segments<String>,
    change: InputChange<R>,
) -> Result<Json<R::Changed>, ApiError> {
    let record = found::<R>(&context, &name)?;
    R::may_write(&context, Some(&record))?;
    editable(&record)?;
    change.if_match.check(&record)?;
    Ok(Json(R::change(&context, record, change).await?))
}

pub(super) async fn remove<R: Exposed>(
    context: Context,
    Segments(name): Segments<String>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    let found = found::<R>(&context, &name)?;
    R::may_write(&context, Some(&found))?;
    R::may_be_removed(&context, &found).await?;
    remove_stored(&context, &found, if_match).await?;
    R::removed(&context, &found).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a record if it is the version that the request wants.
pub(super) async fn remove_stored<R: Stored>(
    context: &Context,
    record: &Record<R>,
    if_match: IfMatch,
) -> Result<(), ApiError> {
    let is_wanted = move |record: &Record<R>| if_match.allows_record(record);
    let directory = &context.deps().directory;
    Ok(directory.remove_if(&record.org, &record.id, ManagedBy::Store, is_wanted).await?)
}

/// Refuses what only the configuration file may change.
pub(super) fn editable<R: Resource>(record: &Record<R>) -> Result<(), ApiError> {
    match record.managed_by {
        ManagedBy::Store => Ok(()),
        ManagedBy::File => {
            Err(ApiError::ManagedByFile { what: R::KIND.one, name: record.name().to_owned() })
        }
    }
}

/// Stores a new one and names it in the audit log.
pub(super) async fn store_new<R: Exposed>(
    context: &Context,
    spec: R::Spec,
    facts: R::Facts,
) -> Result<Arc<Record<R>>, ApiError> {
    let Context { admin, caller } = context;
    let directory = &admin.deps().directory;
    let made = directory.add::<R>(caller.org(), ManagedBy::Store, spec, facts).await?;
    caller.record_changed(R::KIND.one, &made.id, made.name());
    Ok(made)
}

/// Stores the spec with a merge patch, and what `alter` does to the record.
pub(super) async fn store_change<R: Changeable>(
    context: &Context,
    record: &Record<R>,
    change: &InputChange<R>,
    alter: impl Fn(&mut Record<R>) + Sync,
) -> Result<Arc<Record<R>>, ApiError> {
    let edit = |record: &mut Record<R>| -> Result<(), ApiError> {
        change.if_match.check(record)?;
        let mut spec = change.of(&record.spec)?;
        R::resolve_change(context, &record.spec, &mut spec)?;
        record.spec = spec;
        alter(record);
        Ok(())
    };
    context.deps().directory.edit::<R, ApiError>(&record.org, &record.id, &edit).await
}

/// Stores when a secret of the record was replaced, which makes another version. Called before the secret is replaced, so that
/// of two requests with one tag only one replaces it. `set` writes the time.
pub(super) async fn rotated<R: Stored>(
    context: &Context,
    record: &Record<R>,
    if_match: &IfMatch,
    set: fn(&mut R::Facts, Timestamp),
) -> Result<Arc<Record<R>>, ApiError> {
    let Deps { directory, clock, .. } = context.deps();
    let now = clock.now();
    let edit = |record: &mut Record<R>| -> Result<(), ApiError> {
        if_match.check(record)?;
        set(&mut record.facts, now);
        Ok(())
    };
    directory.edit::<R, ApiError>(&record.org, &record.id, &edit).await
}

/// As the API answers with it.
pub(super) async fn shown<R: Exposed>(context: &Context, record: &Record<R>) -> Shown<R> {
    record.shown(R::shown_facts(context, record).await)
}

/// By name or id, as far as it exists for the caller; named in the audit log.
pub(super) fn found<R: Exposed>(context: &Context, name: &str) -> Result<Arc<Record<R>>, ApiError> {
    let found = mentioned::<R>(context, name)?;
    context.caller.record_changed(R::KIND.one, &found.id, found.name());
    Ok(found)
}

/// The same of one that the request is not about.
pub(super) fn mentioned<R: Exposed>(
    context: &Context,
    name: &str,
) -> Result<Arc<Record<R>>, ApiError> {
    context.named::<R>(name, |it| R::sees(context, it))
}

/// The owner of a new resource: the named user, else the caller.
pub(super) fn owner_of_new(
    context: &Context,
    named: Option<&str>,
) -> Result<Option<UserId>, ApiError> {
    match named {
        Some(name) => resolve_assigned(context, Some(name)),
        None => Ok(context.caller.user().map(|user| user.id.clone())),
    }
}

/// Checks that the caller may assign the named owner; `None`: the organisation.
pub(super) fn resolve_assigned(
    context: &Context,
    named: Option<&str>,
) -> Result<Option<UserId>, ApiError> {
    let caller = &context.caller;
    let found = named.map(|name| mentioned::<User>(context, name)).transpose();
    let found = found.map_err(|error| error.in_field("owner"))?;
    let found = found.map(|user| user.id.clone());
    let own = caller.user().map(|user| user.id.clone());
    match caller.user() {
        Some(user) if !caller.edits_all() && found != own => {
            Err(ApiError::RoleRefused(user.role.as_str()))
        }
        _ => Ok(found),
    }
}

/// The visibility of a connection: the requested one; by default private if it has an owner, else
/// shared.
pub(super) fn owner_visibility(owner: Option<&UserId>, asked: Option<Visibility>) -> Visibility {
    asked.unwrap_or(match owner {
        Some(_) => Visibility::Private,
        None => Visibility::Shared,
    })
}

/// Refuses to remove what the configuration names.
pub(super) async fn may_be_removed<R: Resource>(
    admin: &Admin,
    record: &Record<R>,
) -> Result<(), ApiError> {
    let mentions = admin.deps().rulebook.mentions(record).await;
    let hint = "change the configuration first: without it, the next start would be refused";
    refused_if_any(record, &mentions, hint)
}

/// Refuses to rename what the configuration names by its name.
pub(super) async fn may_be_renamed<R: Resource>(
    admin: &Admin,
    record: &Record<R>,
) -> Result<(), ApiError> {
    let mut mentions = admin.deps().rulebook.mentions(record).await;
    mentions.retain(|mention| mention.name == record.name());
    let hint = "change the configuration first, or name it there by its id";
    refused_if_any(record, &mentions, hint)
}

fn refused_if_any<R: Resource>(
    record: &Record<R>,
    mentions: &[ConfigMention],
    hint: &str,
) -> Result<(), ApiError> {
    let [first, others @ ..] = mentions else { return Ok(()) };
    let (what, name, place) = (R::KIND.one, record.name(), &first.place);
    let more = match others.len() {
        0 => String::new(),
        count => format!(", and {count} more"),
    };
    Err(ApiError::refused(format!("the configuration names {what} `{name}` ({place}{more})"))
        .hint(hint))
}
