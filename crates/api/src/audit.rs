//! `/audit`: the audit log, searched newest first, followed as it is written, and verified. Only a gateway that writes
//! the log can be followed; its files are also read for a command that no gateway answers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRef, State};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::HeaderMap;
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};

use super::audit_log::AuditLog;
use super::auth::Caller;
use super::body::Params;
use super::error::ApiError;
use super::openapi::{PageOrEvents, Routes};
use super::page::limited;
use super::request_id;
use super::state::Admin;
use super::wire::{
    AuditBreak, AuditChain, AuditCounts, AuditCountsRequest, AuditRequest, AuditVerified, List,
};
use keyward_base::id::OrgId;
use keyward_base::time::parse_moment;
use keyward_state::observe::event::Event;
use keyward_state::observe::filter::Filter;
use keyward_state::observe::follow::Follower;
use keyward_state::observe::query::{AuditPage, AuditQuery};
use keyward_state::observe::verify::ChainReport;

/// What a browser's `EventSource` sends when it connects again: the `id` of the last event (HTML, server-sent events).
const LAST_EVENT_ID: &str = "last-event-id";

/// The log, and whom it is read for.
#[derive(Clone)]
pub(super) struct AuditReader {
    log: AuditLog,
    gateway: Admin,
}

/// Records on their way to a follower.
struct AuditFollower {
    reader: AuditReader,
    caller: Caller,
    written: watch::Receiver<u64>,
    follower: Option<Follower>,
    records: VecDeque<Event>,
    has_ended: bool,
}

impl FromRef<Admin> for AuditReader {
    fn from_ref(admin: &Admin) -> Self {
        Self { log: admin.deps().audit.clone(), gateway: admin.clone() }
    }
}

pub(super) fn routes() -> Routes {
    Routes::new()
        .get(
            "/audit",
            ["listRecords", "List records of the audit log, newest first, or follow it"],
            audit,
        )
        .get("/audit/counts", ["countRecords", "Count records of the audit log in groups"], counts)
        .get("/audit/verify", ["verifyAuditLog", "Verify the hash chain of the audit log"], verify)
}

async fn audit(
    State(reader): State<AuditReader>,
    caller: Caller,
    headers: HeaderMap,
    Params(ask): Params<AuditRequest>,
) -> Result<PageOrEvents<Event>, ApiError> {
    if ask.by.is_some() {
        return Err(ApiError::field("by", "is for `/audit/counts`"));
    }
    let filter = reader.filter(&caller, &ask)?;
    match ask.follow {
        true => {
            let ask = resumed(ask, &headers);
            follow(reader, caller, filter, &ask).await.map(PageOrEvents::Events)
        }
        false => list(reader, filter, &ask).await.map(PageOrEvents::Page),
    }
}

async fn list(
    reader: AuditReader,
    filter: Filter,
    ask: &AuditRequest,
) -> Result<Json<List<Event>>, ApiError> {
    let query = AuditQuery { filter, before: ask.after, limit: limited(ask.limit)? };
    let AuditPage { records, next } = reader.search(query).await?;
    Ok(Json(List { items: records, next: next.map(|next| next.to_string()) }))
}

/// Counts the records that one request can read; `next` goes on.
async fn counts(
    State(reader): State<AuditReader>,
    caller: Caller,
    Params(AuditCountsRequest(ask)): Params<AuditCountsRequest>,
) -> Result<Json<AuditCounts>, ApiError> {
    let by = ask.by.ok_or_else(|| ApiError::field("by", "is missing"))?;
    for (field, is_given) in [("follow", ask.follow), ("limit", ask.limit.is_some())] {
        if is_given {
            return Err(ApiError::field(field, "has no meaning for counts"));
        }
    }
    let (filter, trail) = (reader.filter(&caller, &ask)?, reader.log.trail.clone());
    reader.caught_up().await;
    let counted = reader.read(move |go_on| trail.count(&filter, by, ask.after, go_on));
    let (counts, next) = counted.await?;
    let (groups, other) = counts.into_groups();
    Ok(Json(AuditCounts { by, groups, other, next: next.map(|next| next.to_string()) }))
}

async fn verify(
    State(reader): State<AuditReader>,
    _: Caller,
) -> Result<Json<AuditVerified>, ApiError> {
    let trail = reader.log.trail.clone();
    // Before the files are read: what is written meanwhile may be missing there.
    let written = reader.log.written.as_ref().map_or(0, |written| *written.borrow());
    let ChainReport { files, records, first, last, broken } =
        reader.verify(move |go_on| trail.verify_until(written, go_on)).await?;
    let broken = broken.map(|broken| AuditBreak {
        file: broken.file.display().to_string(),
        line: broken.line,
        reason: broken.reason,
    });
    let chains = reader.chains().await?;
    let is_wrong = |chain: &AuditChain| chain.reason.is_some();
    let whole = broken.is_none() && !chains.iter().any(is_wrong);
    let (last, hash) = (last.seq, last.hash);
    Ok(Json(AuditVerified { whole, files, records, first, last, hash, broken, chains }))
}

/// Resumes a stream after the last record that its reader received. A field that is not a number is ignored: it is of
/// another stream.
fn resumed(ask: AuditRequest, headers: &HeaderMap) -> AuditRequest {
    let last: Option<u64> =
        headers.get(LAST_EVENT_ID).and_then(|last| last.to_str().ok()?.parse().ok());
    match last {
        Some(last) => AuditRequest { after: Some(last), limit: None, ..ask },
        None => ask,
    }
}

async fn follow(
    reader: AuditReader,
    caller: Caller,
    filter: Filter,
    ask: &AuditRequest,
) -> Result<Response, ApiError> {
    if ask.until.is_some() {
        return Err(ApiError::field("until", "must not be given together with `follow`"));
    }
    let Some(written) = reader.log.written.clone() else { return Err(ApiError::NoSuchPath) };
    let head = ask.after.unwrap_or(*written.borrow());
    let records = match ask.limit {
        None | Some(0) => Vec::new(),
        Some(limit) => {
            let before = Some(head.saturating_add(1));
            let limit = limited(Some(limit))?;
            reader.search(AuditQuery { filter: filter.clone(), before, limit }).await?.records
        }
    };
    let follower = Some(Follower::new(reader.log.trail.clone(), filter, head));
    let records = records.into_iter().rev().collect();
    let following = AuditFollower { reader, caller, written, follower, records, has_ended: false };
    let events = stream::unfold(following, |mut following| async move {
        let event = following.next().await?;
        Some((Ok::<_, Infallible>(event), following))
    });
    Ok(Sse::new(request_id::streamed(events)).keep_alive(KeepAlive::new()).into_response())
}

impl AuditReader {
    fn filter(&self, caller: &Caller, ask: &AuditRequest) -> Result<Filter, ApiError> {
        let now = self.gateway.deps().clock.now();
        let of_install = caller.is_operator() || *caller.org() == OrgId::default_org();
        let since = moment("since", ask.since.as_deref(), now)?;
        Ok(Filter {
            org: Some(caller.org().to_string()),
            orgless: of_install,
            agent: ask.agent.clone(),
            token: ask.token.clone(),
            session: ask.session.clone(),
            user: ask.user.clone(),
            host: ask.host.clone(),
            connection: ask.connection.clone(),
            code: ask.code.clone(),
            refused: ask.refused,
            method: ask.method.clone(),
            exchange: ask.exchange.clone(),
            event: ask.event.clone(),
            changes: ask.changes,
            changed: ask.changed.clone(),
            requests: ask.requests,
            since: since.max(self.beginning(caller)),
            until: moment("until", ask.until.as_deref(), now)?,
        })
    }

    /// When the organisation was created. Records of an earlier organisation with the same name are not shown.
    fn beginning(&self, caller: &Caller) -> Option<Timestamp> {
        let view = self.gateway.deps().directory.view();
        let made = view.org(caller.org()).map(|org| org.created);
        made.filter(|_| *caller.org() != OrgId::default_org())
    }

    /// What replicas published of their logs, compared with this log.
    async fn chains(&self) -> Result<Vec<AuditChain>, ApiError> {
        let chains = self.gateway.deps().directory.audit_chains().await?;
        let trail = self.log.trail.clone();
        let compare = move |go_on: &dyn Fn() -> bool| {
            let wanted = chains.into_iter().take_while(|_| go_on());
            let compared = wanted.map(|chain| {
                let state = trail.compare(&chain)?;
                Ok(AuditChain::of(chain, state))
            });
            compared.collect()
        };
        self.verify(compare).await
    }

    async fn search(&self, query: AuditQuery) -> Result<AuditPage, ApiError> {
        self.caught_up().await;
        let trail = self.log.trail.clone();
        self.read(move |go_on| trail.query(&query, go_on)).await
    }

    /// Waits until what was recorded before can be read: who changes something finds it in the log.
    async fn caught_up(&self) {
        self.gateway.deps().changes.wait_until_readable().await;
    }

    /// Reads a part of the log.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Fn() -> bool) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        read_in(&self.log.searches, work).await
    }

    /// Reads the whole log.
    async fn verify<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Fn() -> bool) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        read_in(&self.log.verifications, work).await
    }
}

/// Reads on a blocking thread, when `turns` has a permit. Ends soon after the requester is gone, because this future is
/// dropped then.
async fn read_in<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    work: impl FnOnce(&dyn Fn() -> bool) -> io::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let turn = turns.clone().acquire_owned().await.map_err(ApiError::internal)?;
    let asked = Arc::new(());
    let asks = Arc::downgrade(&asked);
    let done = tokio::task::spawn_blocking(move || {
        let result = work(&|| asks.strong_count() > 0);
        drop(turn);
        result
    });
    let done = done.await;
    drop(asked);
    match done {
        Ok(result) => result.map_err(|error| ApiError::audit(&error)),
        Err(error) => Err(ApiError::internal(error)),
    }
}

fn moment(field: &str, text: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
    let parsed = text.map(|text| parse_moment(text, now)).transpose();
    parsed.map_err(|error| ApiError::field(field, error.to_string()))
}

impl AuditFollower {
    /// The next record, or why there are no more; `None` after that.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(record) = self.records.pop_front() {
                return Some(sse_event(&record));
            }
            if self.has_ended {
                return None;
            }
            if !self.caller.is_still_authenticated(self.reader.gateway.deps()) {
                return Some(self.end("the token or login no longer gives access"));
            }
            let accepts_work = self.reader.gateway.accepts_work();
            // Before it is read: what is written meanwhile is news again.
            self.written.mark_unchanged();
            match self.read_next().await {
                Err(error) => return Some(self.end(&error.to_string())),
                Ok(true) => {}
                Ok(false) if !accepts_work => return Some(self.end("the gateway is stopping")),
                Ok(false) => tokio::select! {
                    changed = self.written.changed() => if changed.is_err() {
                        return Some(self.end("the gateway is stopping"));
                    },
                    () = self.reader.gateway.drain_started() => {}
                    () = self.caller.authentication_end(self.reader.gateway.deps()) => {}
                },
            }
        }
    }

    /// Reads the next records. Returns whether there may be more to read or to send.
    async fn read_next(&mut self) -> Result<bool, ApiError> {
        let Some(mut follower) = self.follower.take() else { return Ok(false) };
        let read = self.reader.read(move |_| {
            let new = follower.read_new()?;
            Ok((follower, new))
        });
        let (follower, new) = read.await?;
        self.follower = Some(follower);
        self.records.extend(new.records);
        Ok(new.more || !self.records.is_empty())
    }

    fn end(&mut self, reason: &str) -> sse::Event {
        self.has_ended = true;
        sse::Event::default().event("end").data(serde_json::json!({ "reason": reason }).to_string())
    }
}

fn sse_event(record: &Event) -> sse::Event {
    let event = sse::Event::default().id(record.seq.to_string());
    match event.json_data(record) {
        Ok(event) => event,
        Err(error) => sse::Event::default().comment(error.to_string()),
    }
}
