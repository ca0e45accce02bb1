//! [`Supervision`]: the copying of a session's bytes, with what its connection's settings ask for: statements that are checked
//! or recorded, and limits of answers. When the gateway ends a session, its agent gets the reason.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;

use super::answers::{AnswerFrames, AnswerRules, AnswerWatch, SessionCut};
use super::refused::fatal;
use super::statements::filter::StatementFilter;
use super::statements::keeps_role;
use crate::rules::{Dialect, EnforcedSettings, is_recorded};
use crate::session::send_last;
use crate::stream::{self, FilteredStream};
use crate::upstream::{Upstream, watch_agent_end};
use keyward_base::codes::Code;
use keyward_proxy::{ServiceExchange, ServiceStream, SessionEnd, StatementLog};
use keyward_rules::policy::DatabasePermit;

/// `Terminate`: the last message of a client. Most then wait for the server to close the stream.
const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// What a session's settings ask for.
#[derive(Debug)]
pub struct Supervision {
    /// `None`: every statement may be sent.
    kept: Option<EnforcedSettings>,
    /// Where its statements are recorded.
    log: Option<StatementLog>,
    watched: AnswerRules,
}

impl Supervision {
    /// That of a permitted session at a server of this version.
    pub fn of(
        permit: &DatabasePermit,
        exchange: &ServiceExchange,
        server_version: Option<&str>,
    ) -> Self {
        let settings = permit.wanted().settings.as_deref();
        let mut kept = EnforcedSettings::of(permit, Dialect::Postgres);
        if let Some(kept) = &mut kept {
            kept.loses_role &= !server_version.is_some_and(keeps_role);
        }
        let watched = AnswerRules {
            read_only: kept.as_ref().is_some_and(|kept| kept.read_only),
            reads_statements: kept.is_some(),
            ..AnswerRules::limits(settings)
        };
        Self { kept, log: is_recorded(permit).then(|| exchange.statement_log()), watched }
    }

    /// Copies a session's bytes until it ends. Returns whether the gateway has ended it before the server has answered
    /// everything.
    pub async fn copy(
        self,
        exchange: &mut ServiceExchange,
        mut stream: ServiceStream,
        upstream: Upstream,
    ) -> bool {
        let ended = Arc::new(OnceLock::new());
        let upstream =
            stream::WatchedStream::new(upstream, AnswerWatch::new(self.watched, ended.clone()));
        let mut frames = AnswerFrames::new(stream.socket());
        let idle = frames.idle();
        let (agents, agent_ended) = watch_agent_end(&mut frames, |read| read.ends_with(TERMINATE));
        let filter = StatementFilter::new(self.kept, self.log);
        let long_checks = exchange.long_checks();
        let agents = FilteredStream::new(agents, filter, BytesMut::new(), long_checks);
        let end = exchange.splice(agents, upstream, || idle.load(Relaxed)).await;
        let message = match ended.get() {
            Some(ended) => {
                note(exchange, *ended);
                Some(ended.message())
            }
            None => last_message(end),
        };
        agent_ended.note(exchange, end);
        let (are_whole, are_answered) = (frames.are_whole(), frames.are_answered());
        let is_cut = message.is_some();
        if let Some(message) = message.filter(|_| are_whole) {
            send_last(&mut stream, &message).await;
        }
        is_cut && !are_answered
    }
}

/// The last message to the agent, if the gateway has ended its session.
fn last_message(end: SessionEnd) -> Option<Vec<u8>> {
    // 57P01: admin_shutdown; 57P05: idle_session_timeout.
    let (state, message) = match end {
        SessionEnd::Revoked => ("57P01", "keyward: the agent's access was revoked or changed"),
        SessionEnd::Stopped => ("57P01", "keyward: the gateway stops"),
        SessionEnd::Idle => ("57P05", "keyward: the session was idle for too long"),
        SessionEnd::Closed | SessionEnd::ServerClosed => return None,
    };
    Some(fatal(state, message, None, None))
}

fn note(exchange: &mut ServiceExchange, ended: SessionCut) {
    if ended == SessionCut::ModeChanged {
        tracing::warn!(
            id = "read_only_left",
            exchange = exchange.id(),
            "ended a session whose settings were changed: give the connection a role with fewer rights"
        );
    }
    exchange.refused_by_protocol(Code::Denied);
}
