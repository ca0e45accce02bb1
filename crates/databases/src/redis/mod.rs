//! Redis and Valkey: RESP2 and RESP3. `serve` reads commands until one authenticates; each stage has a file.

mod commands;
mod filter;
mod greeting;
#[cfg(test)]
mod hostile;
mod login;
mod resp;
pub mod test;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::BytesMut;
use zeroize::Zeroizing;

use self::commands::RedisAccess;
use self::filter::RedisFilter;
use self::greeting::{OpeningAnswer, RedisClient, RedisGreetingError};
use self::login::RedisLogin;
use crate::listener::{ClientChoice, DatabaseListener};
use crate::refused::{RefusalWords, Refused};
use crate::session::{self, Greeting, send_first, send_last};
use crate::stream::FilteredStream;
use crate::upstream::{Upstream, watch_agent_end};
use keyward_base::agent::Agent;
use keyward_base::codes::Code;
use keyward_base::database::DatabaseProtocol;
use keyward_proxy::{ServiceExchange, ServiceStream};
use keyward_rules::policy::PermittedLogin;

/// The answer to a stream above the limit.
pub const OVERLOADED: &[u8] =
    b"-ERR max number of clients reached: keyward: too many open streams, retry later\r\n";

/// Clients name no protocol in TLS (ALPN); one that does names this.
const ALPN: &[u8] = b"redis";

/// A session that is logged in at the server.
pub struct RedisSession {
    upstream: Upstream,
    allowed: RedisAccess,
}

/// Serves one stream of a listener until it ends.
pub async fn serve(listener: Arc<DatabaseListener>, stream: ServiceStream) {
    session::serve(&listener, stream, greeted).await;
}

/// The client's login, within TLS if it wants that.
async fn greeted(mut stream: ServiceStream) -> Option<(ServiceStream, RedisClient)> {
    if stream.begins_with_tls().await {
        stream = stream.with_tls(ALPN).await?;
    }
    let why = match stream.is_confidential() {
        false => "this listener is reached over the network: use TLS (rediss://)",
        true => {
            let is_owned = stream.is_owned();
            match greeting::read(stream.socket(), is_owned).await {
                Ok(client) => return Some((stream, client)),
                Err(RedisGreetingError::Left) => return None,
                Err(RedisGreetingError::Malformed(malformed)) => malformed.text(),
            }
        }
    };
    tracing::debug!(why, "a client of a database listener has not authenticated");
    send_last(&mut stream, &line(&Refused::Client(why), None)).await;
    None
}

impl Greeting for RedisClient {
    type Open = RedisSession;

    const PROTOCOL: DatabaseProtocol = DatabaseProtocol::Redis;

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
    ) -> Result<RedisSession, Refused> {
        let login = RedisLogin::new(permitted, &agent.name)?;
        let upstream = login.run(exchange).await?;
        Ok(RedisSession { upstream, allowed: login.allowed() })
    }

    async fn run(
        self,
        open: RedisSession,
        mut exchange: ServiceExchange,
        mut stream: ServiceStream,
    ) {
        let (answer, hello) = match &self.answer {
            OpeningAnswer::Nothing => (&b""[..], &[][..]),
            OpeningAnswer::Ok => (&b"+OK\r\n"[..], &[][..]),
            OpeningAnswer::ServersHello(request) => (&b""[..], &request[..]),
        };
        if !send_first(&mut stream, answer).await {
            return;
        }
        let malformed = Arc::<AtomicBool>::default();
        let (agents, agent_ended) = watch_agent_end(stream.socket(), ends_with_quit);
        let mut filter = RedisFilter::new(open.allowed, malformed.clone());
        let mut first = BytesMut::from(hello);
        filter.read(&self.rest, &mut first);
        let agents = FilteredStream::new(agents, filter, first, exchange.long_checks());
        // What is queued belongs to a transaction.
        let upstream = agent_ended.answers(open.upstream, |read| !read.ends_with(b"+QUEUED\r\n"));
        let end = exchange.splice(agents, upstream, || agent_ended.is_idle()).await;
        agent_ended.note(&mut exchange, end);
        if malformed.load(Relaxed) {
            exchange.refused_by_protocol(Code::BadRequest);
        }
    }

    fn refusal(&self, refused: &Refused, exchange: Option<&str>) -> Vec<u8> {
        line(refused, exchange)
    }

    async fn refuse_all(&mut self, stream: &mut ServiceStream, refusal: &[u8]) {
        let rest = std::mem::take(&mut self.rest);
        let end = greeting::refuse_all(stream.socket(), &rest, refusal).await;
        tracing::trace!(?end, "a refused client has left, or may send no more");
    }
}

/// A refusal as an error of Redis. Clients distinguish errors by their first word.
fn line(refused: &Refused, exchange: Option<&str>) -> Vec<u8> {
    let words: RefusalWords = refused.words(exchange);
    let kind = match words.code {
        Some(Code::AgentUnauthenticated | Code::TooManyGuesses | Code::SessionExpired) => {
            "WRONGPASS"
        }
        Some(
            Code::ConnectionMissing
            | Code::ConnectionAmbiguous
            | Code::ConnectionPaused
            | Code::Denied
            | Code::PluginBlocked,
        ) => "NOPERM",
        _ => "ERR",
    };
    format!("-{kind} {}\r\n", words.line()).into_bytes()
}

/// Whether `QUIT` comes last, as an array or inline.
fn ends_with_quit(read: &[u8]) -> bool {
    let read = read.strip_suffix(b"\n").unwrap_or(read);
    let read = read.strip_suffix(b"\r").unwrap_or(read);
    read.len() >= 4 && read[read.len() - 4..].eq_ignore_ascii_case(b"QUIT")
}
