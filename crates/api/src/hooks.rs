//! `/hooks`: URLs to which services post their webhooks, and the events that wait there. `intake.rs` takes the requests of
//! services.

mod intake;

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::stream;
use http::StatusCode;

use super::auth::Caller;
use super::body::{Body, Params, Segments};
use super::context::Context;
use super::error::ApiError;
use super::etag::IfMatch;
use super::input::{Input, InputChange};
use super::openapi::{PageOrEvents, Routes};
use super::request_id;
use super::resource::{self, Changeable, Exposed};
use super::wire::{
    HookCreated, HookEventView, HookEventsRequest, HookRotation, HookScheme, HookSecret, List,
};
use keyward_inbox::{EventList, EventState, HookEvent, InboxError, NewKeys, QueueReader};
use keyward_model::{
    Hook, HookCreateOptions, HookFacts, HookShown, HookSpec, ManagedBy, Record, Reference,
    Resource, SecretText, Shown,
};
use keyward_vault::events::{SigningKeyError, WebhookSigningKey};

pub(super) use intake::routes as open_routes;

/// Events of one answer.
const EVENTS_MAX: usize = 100;

/// Why a follower gets no more events.
const NO_ACCESS: &str = "the token or login no longer gives access";

/// Events of one answer by default.
const EVENTS_USUAL: usize = 20;

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/hook-schemes", ["listHookSchemes", "List how services sign their webhooks"], schemes)
        .get("/hooks", ["listHooks", "List hooks"], resource::list::<Hook>)
        .post("/hooks", ["addHook", "Add a hook"], resource::add::<Hook>)
        .get("/hooks/{hook}", ["getHook", "Show a hook"], resource::show::<Hook>)
        .patch("/hooks/{hook}", ["changeHook", "Change a hook"], resource::change::<Hook>)
        .delete("/hooks/{hook}", ["removeHook", "Remove a hook"], resource::remove::<Hook>)
        .post("/hooks/{hook}/rotate", ["rotateHookKeys", "Replace the keys of a hook"], rotate)
        .post(
            "/hooks/{hook}/reveal",
            ["revealHookSecret", "Show the secret that a service sent, until its first event"],
            reveal,
        )
        .get(
            "/hooks/{hook}/events",
            [
                "listHookEvents",
                "List the events that wait at a hook, failed or were delivered, or follow them",
            ],
            events,
        )
        .get("/hooks/{hook}/events/{event}", ["getHookEvent", "Show an event"], event)
        .delete(
            "/hooks/{hook}/events/{event}",
            ["takeHookEvent", "Remove an event after it was handled"],
            take,
        )
        .post(
            "/hooks/{hook}/events/{event}/resend",
            ["resendHookEvent", "Deliver an event again"],
            resend,
        )
}

async fn schemes(_: Caller) -> Json<List<HookScheme>> {
    let of = |scheme: &keyward_hooks::Scheme| HookScheme {
        id: scheme.id().to_owned(),
        name: scheme.name().to_owned(),
        secret: scheme.secret_label().to_owned(),
        docs: scheme.docs().to_owned(),
    };
    Json(List { items: keyward_hooks::all().iter().map(of).collect(), next: None })
}

impl Exposed for Hook {
    type Added = HookCreated;

    fn texts<'a>(_: &'a Context, record: &'a Record<Self>) -> Vec<Cow<'a, str>> {
        let texts = record.to.as_deref().into_iter().chain(record.scheme.as_deref());
        texts.map(Cow::Borrowed).collect()
    }

    fn resolve(context: &Context, spec: &mut HookSpec) -> Result<(), ApiError> {
        let of_connection = scheme_of_connection(context, spec)?;
        has_scheme(spec, of_connection)
    }

    async fn shown_facts(context: &Context, record: &Record<Self>) -> HookShown {
        let inbox = &context.deps().inbox;
        let status = inbox.status(&record.id);
        let scheme = inbox.scheme(record);
        let secret = inbox.secret_status(record).await.unwrap_or_default();
        HookShown {
            url: inbox.url(record),
            signed_by: scheme.map_or_else(String::new, |scheme| scheme.id().to_owned()),
            has_secret: secret.is_known,
            verify_token: secret.verify_token,
            can_reveal: secret.can_reveal,
            paused: record.facts.paused,
            waiting: status.waiting,
            dead: status.dead,
            delivered: status.delivered,
            last: status.last,
            refused: status.refused,
        }
    }

    async fn add(context: &Context, input: Input<Self>) -> Result<HookCreated, ApiError> {
        let keys = GivenKeys::of(input.options, true)?;
        Self::check(&input.spec)?;
        let inbox = &context.deps().inbox;
        let hook = inbox.new_hook(context.caller.org(), ManagedBy::Store, input.spec);
        check_keys(context, &hook, &keys.new).await?;
        let hook = inbox.add(hook, keys.new).await?;
        context.caller.record_changed("hook", &hook.id, hook.name());
        Ok(added(context, &hook, keys.shown).await)
    }

    async fn removed(context: &Context, record: &Record<Self>) -> Result<(), ApiError> {
        Ok(context.deps().inbox.forget(&record.org, &record.id).await?)
    }
}

impl Changeable for Hook {
    type Changed = Shown<Self>;

    fn resolve_change(
        context: &Context,
        before: &HookSpec,
        spec: &mut HookSpec,
    ) -> Result<(), ApiError> {
        let of_connection = match scheme_of_connection(context, spec) {
            // The connection that it named before is gone.
            Err(_) if before.connection == spec.connection => None,
            found => found?,
        };
        match (&before.connection, &before.scheme) == (&spec.connection, &spec.scheme) {
            true => Ok(()),
            false => has_scheme(spec, of_connection),
        }
    }

    async fn change(
        context: &Context,
        record: Arc<Record<Self>>,
        change: InputChange<Self>,
    ) -> Result<Shown<Self>, ApiError> {
        let paused = change.options.paused;
        let changed = resource::store_change(context, &record, &change, |hook| {
            hook.facts.paused = paused.unwrap_or(hook.facts.paused);
        });
        Ok(resource::shown(context, &*changed.await?).await)
    }
}

/// Puts the id of the connection in place of its name; gives the scheme that its provider names.
fn scheme_of_connection(
    context: &Context,
    spec: &mut HookSpec,
) -> Result<Option<String>, ApiError> {
    let Some(named) = &mut spec.connection else { return Ok(None) };
    let connection = context.connection_to_use(named.as_str());
    let connection = connection.map_err(|error| error.in_field("connection"))?;
    *named = Reference::Id(connection.id.clone());
    let catalogue = context.deps().vault.catalogue(context.caller.org());
    let provider = catalogue.get(&connection.provider);
    Ok(provider.and_then(|it| it.about.webhook_scheme.clone()))
}

/// Refuses a scheme that does not exist, and none where the provider of the connection names none either.
fn has_scheme(spec: &HookSpec, of_connection: Option<String>) -> Result<(), ApiError> {
    let known = || keyward_hooks::all().iter().map(|scheme| scheme.id());
    match (&spec.scheme, of_connection) {
        (Some(id), _) if keyward_hooks::get(id).is_none() => {
            Err(ApiError::not_found_among("signature scheme", id, known()).in_field("scheme"))
        }
        (None, None) if spec.connection.is_some() => Err(ApiError::field(
            "scheme",
            "is required: the provider of this connection names none",
        )
        .hint("`keyward hook schemes` lists them")),
        _ => Ok(()),
    }
}

/// Keys of a hook, and the text of a signing key that is made here: shown once.
struct GivenKeys {
    new: NewKeys,
    shown: Option<String>,
}

impl GivenKeys {
    /// Those that are given; `fresh`: a new signing key if none is.
    fn of(given: HookCreateOptions, fresh: bool) -> Result<Self, ApiError> {
        let secret = given.secret.map(|SecretText(secret)| secret);
        let (signing_key, shown) = match given.signing_key {
            Some(SecretText(text)) => {
                let refused =
                    |error: SigningKeyError| ApiError::field("signing_key", error.to_string());
                (Some(WebhookSigningKey::parse(&text).map_err(refused)?), None)
            }
            None if fresh => {
                let key = WebhookSigningKey::random();
                let shown = Some(key.shown());
                (Some(key), shown)
            }
            None => (None, None),
        };
        Ok(Self { new: NewKeys { secret, signing_key, no_overlap: false }, shown })
    }
}

/// Refuses keys with which the hook could not verify a request.
async fn check_keys(context: &Context, hook: &Record<Hook>, new: &NewKeys) -> Result<(), ApiError> {
    let inbox = &context.deps().inbox;
    let scheme = inbox.scheme(hook);
    if scheme.is_some_and(|scheme| scheme.asks_api()) && hook.connection.is_none() {
        return Err(ApiError::field(
            "connection",
            "is required: its credential fetches the keys of the service",
        ));
    }
    let learns = scheme.is_some_and(|scheme| scheme.learns_secret());
    if new.secret.is_none() && !learns && !inbox.secret_status(hook).await?.is_known {
        let label = scheme.map_or("signing secret", |scheme| scheme.secret_label());
        return Err(ApiError::field(
            "secret",
            format!("is required: the {label} that the service signs with"),
        )
        .hint("the service shows it where its webhook is set up"));
    }
    Ok(inbox.check_secret(hook, new)?)
}

async fn added(context: &Context, hook: &Record<Hook>, shown: Option<String>) -> HookCreated {
    // Nothing is posted from a queue.
    let signing_key = shown.filter(|_| !hook.is_queue());
    HookCreated { hook: resource::shown(context, hook).await, signing_key }
}

/// Takes another secret or signing key from now on, and for a day those before as well, unless they are to end. Without a
/// body, a new signing key; a queue has none that is shown.
async fn rotate(
    context: Context,
    Segments(name): Segments<String>,
    if_match: IfMatch,
    Body(HookRotation { secret, signing_key, no_overlap }): Body<HookRotation>,
) -> Result<Json<HookCreated>, ApiError> {
    let given = HookCreateOptions { secret, signing_key };
    let hook = resource::found::<Hook>(&context, &name)?;
    resource::editable(&*hook)?;
    let fresh = given.secret.is_none();
    if fresh && given.signing_key.is_none() && hook.is_queue() {
        return Err(ApiError::refused("the events of this hook wait in a queue, and nothing is signed there")
            .hint("`keyward hook rotate NAME --secret-stdin` sets another secret of the service; `keyward hook set NAME --to URL` \
                posts events, which are signed"));
    }
    let mut keys = GivenKeys::of(given, fresh)?;
    keys.new.no_overlap = no_overlap;
    check_keys(&context, &hook, &keys.new).await?;
    let work = async move {
        let set = |facts: &mut HookFacts, now| facts.rotated = Some(now);
        let hook = resource::rotated::<Hook>(&context, &hook, &if_match, set).await?;
        context.deps().inbox.set_keys(&hook, keys.new).await?;
        Ok(Json(added(&context, &hook, keys.shown).await))
    };
    // Runs to its end even if the caller disconnects: else the record has the time of keys that were not replaced.
    request_id::spawn(work).await.unwrap_or_else(|error| Err(ApiError::internal(error)))
}

/// Shows the secret that the service sent, because a person must enter it there. The request leaves an audit record.
async fn reveal(
    context: Context,
    Segments(name): Segments<String>,
) -> Result<Json<HookSecret>, ApiError> {
    let hook = resource::found::<Hook>(&context, &name)?;
    Ok(Json(HookSecret { secret: context.deps().inbox.reveal(&hook).await? }))
}

async fn events(
    context: Context,
    Segments(name): Segments<String>,
    Params(ask): Params<HookEventsRequest>,
) -> Result<PageOrEvents<HookEventView>, ApiError> {
    let hook = resource::found::<Hook>(&context, &name)?;
    if ask.follow {
        if ask.dead || ask.delivered || ask.after.is_some() {
            return Err(ApiError::field("follow", "is for events that wait, from the first"));
        }
        return Ok(PageOrEvents::Events(follow(context, hook)));
    }
    let most = ask.limit.unwrap_or(EVENTS_USUAL);
    if !(1..=EVENTS_MAX).contains(&most) {
        return Err(ApiError::field("limit", "must be 1 to 100"));
    }
    let list = match (ask.dead, ask.delivered) {
        (false, false) => EventList::Waiting,
        (true, false) => EventList::Dead,
        (false, true) => EventList::Delivered,
        (true, true) => return Err(ApiError::field("delivered", "contradicts `dead`")),
    };
    let found = context.deps().inbox.events(&hook, list, ask.after.as_deref(), most).await?;
    let (items, has_more) = found;
    let items: Vec<_> = items.into_iter().map(|(event, state)| view(event, state)).collect();
    let next = items.last().filter(|_| has_more).map(|last| last.id.clone());
    Ok(PageOrEvents::Page(Json(List { items, next })))
}

async fn event(
    context: Context,
    Segments((name, id)): Segments<(String, String)>,
) -> Result<Json<HookEventView>, ApiError> {
    let hook = resource::found::<Hook>(&context, &name)?;
    let (event, state, _) = context.deps().inbox.event(&hook, &id).await?;
    Ok(Json(view(event, state)))
}

async fn take(
    context: Context,
    Segments((name, id)): Segments<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let hook = resource::found::<Hook>(&context, &name)?;
    context.deps().inbox.take(&hook, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn resend(
    context: Context,
    Segments((name, id)): Segments<(String, String)>,
) -> Result<Json<HookEventView>, ApiError> {
    let hook = resource::found::<Hook>(&context, &name)?;
    let inbox = &context.deps().inbox;
    inbox.send_again(&hook, &id).await?;
    let (event, state, _) = inbox.event(&hook, &id).await?;
    Ok(Json(view(event, state)))
}

fn view(event: HookEvent, state: EventState) -> HookEventView {
    let bytes = event.body();
    let text = std::str::from_utf8(&bytes).ok().map(str::to_owned);
    let body_base64 = text.is_none().then(|| BASE64_STANDARD.encode(&bytes));
    let (state, why) = match state {
        EventState::Waiting => ("waiting", None),
        EventState::Dead { why } => ("dead", Some(why)),
        EventState::Delivered => ("delivered", None),
    };
    HookEventView {
        id: event.id,
        received: event.received,
        state: state.to_owned(),
        tries: event.tries,
        why,
        content_type: event.content_type,
        headers: event.fields,
        body: text,
        body_base64,
    }
}

/// A follower of a hook's events.
struct EventFollower {
    context: Context,
    hook: Arc<Record<Hook>>,
    reader: QueueReader,
    has_ended: bool,
}

fn follow(context: Context, hook: Arc<Record<Hook>>) -> Response {
    let reader = context.deps().inbox.read();
    let following = EventFollower { context, hook, reader, has_ended: false };
    let events = stream::unfold(following, |mut following| async move {
        let event = following.next().await?;
        Some((Ok::<_, Infallible>(event), following))
    });
    Sse::new(request_id::streamed(events)).keep_alive(KeepAlive::new()).into_response()
}

impl EventFollower {
    /// The next event, or why there are no more; `None` after that.
    async fn next(&mut self) -> Option<sse::Event> {
        if self.has_ended {
            return None;
        }
        let Self { context, hook, reader, .. } = self;
        let (admin, inbox) = (&context.admin, &context.deps().inbox);
        let (caller, deps) = (&context.caller, context.deps());
        let ended = async {
            let mut changes = deps.directory.changes();
            loop {
                let exists = context.view().one::<Hook>(&hook.org, &hook.id).is_some();
                if !exists {
                    return "the hook was removed";
                }
                if !admin.accepts_work() {
                    return "the gateway is stopping";
                }
                tokio::select! {
                    _ = changes.changed() => {}
                    () = admin.drain_started() => {}
                    () = caller.authentication_end(deps) => return NO_ACCESS,
                }
            }
        };
        let next = tokio::select! {
            biased;
            reason = ended => Err(reason.to_owned()),
            next = inbox.next(hook, reader) => next.map_err(|error| ApiError::from(error).to_string()),
        };
        // Its time may have ended since the last check.
        let next = match caller.is_still_authenticated(deps) {
            true => next,
            false => Err(NO_ACCESS.to_owned()),
        };
        Some(match next {
            Ok(event) => {
                let id = event.id.clone();
                let told = sse::Event::default().id(id);
                let view = view(event, EventState::Waiting);
                told.json_data(view)
                    .unwrap_or_else(|error| sse::Event::default().comment(error.to_string()))
            }
            Err(reason) => {
                self.has_ended = true;
                let reason = serde_json::json!({ "reason": reason }).to_string();
                sse::Event::default().event("end").data(reason)
            }
        })
    }
}

impl From<InboxError> for ApiError {
    fn from(error: InboxError) -> Self {
        match error {
            InboxError::NoEvent(id) => Self::not_found("event", &id),
            InboxError::Secret(message) => Self::field("secret", message),
            InboxError::SecretNotSent => Self::refused(error.to_string()).hint(
                "enter the URL of the hook at the service, or have the service send its token again",
            ),
            InboxError::SecretNotShown => Self::refused(error.to_string()).hint(
                "only a secret that the service sent itself and that must be entered there \
                    is shown, until the first event",
            ),
            InboxError::Directory(error) => error.into(),
            InboxError::Row(error) => Self::internal(error),
        }
    }
}
