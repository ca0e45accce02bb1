//! MongoDB, and what else speaks `OP_MSG`. `serve` answers `hello` until a client authenticates; each stage has a file.

mod commands;
mod filter;
mod greeting;
#[cfg(test)]
mod hostile;
mod login;
mod members;
mod scram;
pub mod test;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::BytesMut;
use zeroize::Zeroizing;

use self::commands::MongoAccess;
use self::filter::{AnswerFilter, MongoFilter, Replaced};
use self::greeting::{MongoClient, MongoGreetingError};
use self::login::MongoLogin;
use self::wire::ErrorCode;
use crate::listener::{ClientChoice, DatabaseListener};
use crate::refused::Refused;
use crate::session::{self, Greeting, send_first, send_last};
use crate::stream::{FilteredStream, StreamFilter};
use crate::upstream::{Upstream, watch_agent_end};
use keyward_base::agent::Agent;
use keyward_base::codes::Code;
use keyward_base::database::DatabaseProtocol;
use keyward_proxy::{ServiceExchange, ServiceStream};
use keyward_rules::policy::PermittedLogin;

/// The answer to a stream above the limit: none. An answer has the number of its request, which has not come.
pub const OVERLOADED: &[u8] = b"";

/// Clients name no protocol in TLS (ALPN); one that does names this.
const ALPN: &[u8] = b"mongodb";

/// A session that is logged in at the server.
pub struct MongoSession {
    upstream: Upstream,
    allowed: MongoAccess,
}

/// Serves one stream of a listener until it ends.
pub async fn serve(listener: Arc<DatabaseListener>, stream: ServiceStream) {
    session::serve(&listener, stream, greeted).await;
}

/// The client's login, within TLS if it wants that.
async fn greeted(mut stream: ServiceStream) -> Option<(ServiceStream, MongoClient)> {
    if stream.begins_with_tls().await {
        stream = stream.with_tls(ALPN).await?;
    }
    let why = match stream.is_confidential() {
        false => "this listener is reached over the network: use TLS (tls=true)",
        true => {
            let is_owned = stream.is_owned();
            match greeting::read(stream.socket(), is_owned).await {
                Ok(client) => return Some((stream, client)),
                Err(MongoGreetingError::Left) => return None,
                Err(MongoGreetingError::Malformed(malformed)) => malformed.text(),
            }
        }
    };
    tracing::debug!(why, "a client of a database listener has not authenticated");
    send_last(&mut stream, b"").await;
    None
}

impl Greeting for MongoClient {
    type Open = MongoSession;

    const PROTOCOL: DatabaseProtocol = DatabaseProtocol::Mongodb;

    async fn token(&mut self, _stream: &mut ServiceStream) -> Result<Zeroizing<String>, Refused> {
        self.token.take().ok_or(Refused::Client("no password was sent"))
    }

    fn named(&self) -> ClientChoice<'_> {
        ClientChoice::User(&self.user)
    }

    async fn open(
        &mut self,
        _listener: &DatabaseListener,
        exchange: &mut ServiceExchange,
        agent: &Agent,
        permitted: PermittedLogin,
    ) -> Result<MongoSession, Refused> {
        let mut login = MongoLogin::new(permitted, &agent.name)?;
        let upstream = login.run(exchange).await?;
        Ok(MongoSession { upstream, allowed: login.allowed() })
    }

    async fn run(
        self,
        open: MongoSession,
        mut exchange: ServiceExchange,
        mut stream: ServiceStream,
    ) {
        if self.first.is_empty() {
            let answer = wire::answer(self.asked, &wire::authenticated());
            if !send_first(&mut stream, &answer).await {
                return;
            }
        }
        let (malformed, replaced) = (Arc::<AtomicBool>::default(), Arc::<Replaced>::default());
        let mut filter = MongoFilter::new(open.allowed, replaced.clone(), malformed.clone());
        let mut first = BytesMut::new();
        if filter.feed(&self.first, &mut first).is_ok() {
            let (agents, agent_ended) = watch_agent_end(stream.socket(), |_| false);
            let agents = FilteredStream::new(agents, filter, first, exchange.long_checks());
            let answers = AnswerFilter::new(replaced);
            let upstream = FilteredStream::new(
                open.upstream,
                answers,
                BytesMut::new(),
                exchange.long_checks(),
            );
            let upstream = agent_ended.answers(upstream, |_| true);
            let end = exchange.splice(agents, upstream, || agent_ended.is_idle()).await;
            agent_ended.note(&mut exchange, end);
        }
        if malformed.load(Relaxed) {
            exchange.refused_by_protocol(Code::BadRequest);
        }
    }

    fn refusal(&self, refused: &Refused, exchange: Option<&str>) -> Vec<u8> {
        let words = refused.words(exchange);
        let code = match words.code {
            Some(Code::AgentUnauthenticated | Code::TooManyGuesses | Code::SessionExpired) => {
                ErrorCode::AuthenticationFailed
            }
            None => ErrorCode::BadValue,
            Some(_) => ErrorCode::Unauthorized,
        };
        wire::answer(self.asked, &wire::error(code, &words.line()))
    }
}
