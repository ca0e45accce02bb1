//! Bolt, the protocol of Neo4j and of other graph databases, versions 4.4 and 5.0 to 5.8. `serve` agrees on a version
//! with a client and reads its login; each stage has a file.

mod answers;
mod cypher;
mod filter;
mod format;
mod greeting;
pub mod handshake;
#[cfg(test)]
mod hostile;
mod login;
mod messages;
mod packstream;
#[cfg(test)]
mod session_tests;
mod statements;
pub mod test;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::BytesMut;
use zeroize::Zeroizing;

use self::answers::{AnswerFilter, AwaitedAnswers, WholeMessages};
use self::filter::{BoltAccess, BoltFilter, FORBIDDEN, UNAUTHORIZED};
use self::format::{BoltReadError, BoltVersion, LOGON_SINCE};
use self::greeting::{BoltClient, ClientLogin};
use self::login::{AgreedVersion, BoltLogin, TRY_AGAIN};
use crate::listener::{ClientChoice, DatabaseListener};
use crate::refused::{Refused, ServerRefusal};
use crate::rules::is_recorded;
use crate::session::{self, Greeting, send_first, send_last};
use crate::stream::FilteredStream;
use crate::upstream::{Upstream, watch_agent_end};
use keyward_base::agent::Agent;
use keyward_base::bolt;
use keyward_base::codes::Code;
use keyward_base::database::DatabaseProtocol;
use keyward_proxy::{ServiceExchange, ServiceStream, SessionEnd, StatementLog};
use keyward_rules::policy::PermittedLogin;

/// The answer to a stream above the limit: no version is agreed on.
pub const OVERLOADED: &[u8] = &[0; 4];

/// Clients name no protocol in TLS (ALPN); one that does names this.
const ALPN: &[u8] = b"bolt";

/// `GOODBYE`: the last message of a client.
const GOODBYE: &[u8] = &[0, 2, 0xb0, messages::tag::GOODBYE, 0, 0];

/// A message that is malformed.
const INVALID: &str = "Neo.ClientError.Request.Invalid";
const MALFORMED: &str = "keyward: a message is malformed, or not permitted in this place";

/// The login has ended: drivers open another session, and show why that is refused.
const LOGIN_ENDED: &str = "Neo.ClientError.Security.AuthorizationExpired";

/// A session that is logged in at the server.
pub struct BoltSession {
    upstream: Upstream,
    /// The server's answer to `HELLO`.
    welcome: Zeroizing<Vec<u8>>,
    read_only: bool,
    database: Option<String>,
    server: String,
    /// Where its statements are recorded.
    log: Option<StatementLog>,
}

/// Serves one stream of a listener until it ends.
pub async fn serve(listener: Arc<DatabaseListener>, stream: ServiceStream) {
    session::serve(&listener, stream, async |stream| greeted(&listener, stream).await).await;
}

/// The client's login, within TLS if it wants that.
async fn greeted(
    listener: &DatabaseListener,
    mut stream: ServiceStream,
) -> Option<(ServiceStream, BoltClient)> {
    if stream.begins_with_tls().await {
        stream = stream.with_tls(ALPN).await?;
    }
    if !stream.is_confidential() {
        let why = "this listener is reached over the network: use TLS (bolt+s://)";
        tracing::debug!(why, "a client of a database listener has not authenticated");
        send_last(&mut stream, OVERLOADED).await;
        return None;
    }
    let newest = listener.bolt_version().newest();
    let (error, version) = match handshake::answer(stream.socket(), newest).await {
        Ok(version) => match greeting::read(stream.socket(), version).await {
            Ok(client) => return Some((stream, client)),
            Err(error) => (error, Some(version)),
        },
        Err(error) => (error, None),
    };
    let BoltReadError::Malformed(malformed) = error else { return None };
    let why = malformed.text();
    tracing::debug!(why, "a client of a database listener has not authenticated");
    let refused = Refused::Client(why);
    let last = version.map(|version| failure(version, &refused, None)).unwrap_or_default();
    send_last(&mut stream, &last).await;
    None
}

impl Greeting for BoltClient {
    type Open = BoltSession;

    const PROTOCOL: DatabaseProtocol = DatabaseProtocol::Bolt;

    async fn token(&mut self, _stream: &mut ServiceStream) -> Result<Zeroizing<String>, Refused> {
        // It is compared with that of a later login.
        self.token.clone().ok_or(Refused::Client(
            "no token was sent: give it as the password of `basic`, or by `bearer`",
        ))
    }

    fn named(&self) -> ClientChoice<'_> {
        ClientChoice::User(&self.user)
    }

    async fn open(
        &mut self,
        listener: &DatabaseListener,
        exchange: &mut ServiceExchange,
        agent: &Agent,
        permitted: PermittedLogin,
    ) -> Result<BoltSession, Refused> {
        let permit = permitted.permit();
        let settings = permit.wanted().settings.as_deref();
        let read_only = settings.and_then(|settings| settings.read_only).unwrap_or_default();
        let named = Some(permit.endpoint().database.clone());
        let database = named.filter(|name| name != bolt::HOME_DATABASE);
        let log = is_recorded(permit).then(|| exchange.statement_log());
        let agreed = AgreedVersion { version: self.version, offered: listener.bolt_version() };
        let login = BoltLogin::new(permitted, &agent.name)?;
        let (upstream, welcome) = login.run(exchange, &self.hello, Some(agreed)).await?;
        Ok(BoltSession { upstream, welcome, read_only, database, server: login.address(), log })
    }

    async fn run(
        self,
        open: BoltSession,
        mut exchange: ServiceExchange,
        mut stream: ServiceStream,
    ) {
        let version = self.version;
        let answer = match version >= LOGON_SINCE {
            true => Zeroizing::new(messages::success()),
            false => messages::framed(&open.welcome),
        };
        if !send_first(&mut stream, &answer).await {
            return;
        }
        let login =
            (!stream.is_owned()).then(|| ClientLogin { user: self.user, token: self.token });
        let access = BoltAccess {
            version,
            read_only: open.read_only,
            database: open.database,
            server: open.server,
            listener: self.hello.routes.unwrap_or_default(),
            login,
        };
        let (malformed, awaited) = (Arc::<AtomicBool>::default(), Arc::<AwaitedAnswers>::default());
        let filter = BoltFilter::new(access, open.log, awaited.clone(), malformed.clone());
        let answers = AnswerFilter::new(awaited.clone());
        let mut whole = WholeMessages::new(stream.socket());
        let (agents, agent_ended) = watch_agent_end(&mut whole, |read| read.ends_with(GOODBYE));
        let (first, checks) = (BytesMut::new(), exchange.long_checks());
        let agents = FilteredStream::new(agents, filter, first.clone(), checks.clone());
        let upstream = FilteredStream::new(open.upstream, answers, first, checks);
        let end = exchange.splice(agents, upstream, || awaited.is_idle()).await;
        agent_ended.note(&mut exchange, end);
        let is_whole = whole.are_whole();
        let last = match malformed.load(Relaxed) {
            true => {
                exchange.refused_by_protocol(Code::BadRequest);
                Some(messages::failure(version, INVALID, MALFORMED))
            }
            false => last_message(version, end),
        };
        if let Some(last) = last.filter(|_| is_whole) {
            send_last(&mut stream, &last).await;
        }
    }

    fn refusal(&self, refused: &Refused, exchange: Option<&str>) -> Vec<u8> {
        failure(self.version, refused, exchange)
    }
}

/// The last message to the agent, if the gateway has ended its session.
fn last_message(version: BoltVersion, end: SessionEnd) -> Option<Vec<u8>> {
    let (code, words) = match end {
        SessionEnd::Revoked => (LOGIN_ENDED, "keyward: the agent's access was revoked or changed"),
        SessionEnd::Stopped => (TRY_AGAIN, "keyward: the gateway stops"),
        SessionEnd::Idle => (TRY_AGAIN, "keyward: the session was idle for too long"),
        SessionEnd::Closed | SessionEnd::ServerClosed => return None,
    };
    Some(messages::failure(version, code, words))
}

/// A refusal as a failure of Bolt.
fn failure(version: BoltVersion, refused: &Refused, exchange: Option<&str>) -> Vec<u8> {
    let words = refused.words(exchange);
    let code = match (refused, words.code) {
        (Refused::Server(ServerRefusal { state: Some(state), .. }), _) => state.as_str(),
        (_, None) => INVALID,
        (_, Some(Code::AgentUnauthenticated | Code::TooManyGuesses | Code::SessionExpired)) => {
            UNAUTHORIZED
        }
        (
            _,
            Some(
                Code::Overloaded
                | Code::RateLimited
                | Code::UpstreamUnreachable
                | Code::UpstreamTimeout,
            ),
        ) => TRY_AGAIN,
        _ => FORBIDDEN,
    };
    messages::failure(version, code, &words.line())
}
