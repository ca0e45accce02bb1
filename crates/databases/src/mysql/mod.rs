//! MySQL and MariaDB. `serve` greets a client and reads its answer; each stage has a file.

mod client;
mod filter;
#[cfg(test)]
mod hostile;
mod kill;
mod login;
pub mod login_key;
mod packet;
mod statements;
pub mod test;

use std::sync::Arc;

use bytes::BytesMut;
use zeroize::Zeroizing;

use self::client::{ClientReply, MysqlClient, MysqlFormatError};
use self::filter::MysqlFilter;
use self::kill::SessionAtServer;
use self::login::{LoggedIn, MysqlLogin, NegotiatedOptions};
use self::statements::settings::is_safe_collation;
#[cfg(test)]
pub use self::statements::{check::check, tokens};
use crate::listener::{ClientChoice, DatabaseListener};
use crate::refused::Refused;
use crate::rules::{Dialect, EnforcedSettings, is_recorded};
use crate::session::{self, Greeting, send_first, send_last};
use crate::stream::FilteredStream;
use crate::upstream::watch_agent_end;
use keyward_base::agent::Agent;
use keyward_base::codes::Code;
use keyward_base::database::DatabaseProtocol;
use keyward_proxy::{ServiceExchange, ServiceStream, SessionEnd, StatementLog};
use keyward_rules::policy::PermittedLogin;

/// The answer to a stream above the limit, in place of the greeting: error 1040, "Too many connections".
pub const OVERLOADED: &[u8] =
    b"\x34\0\0\0\xff\x10\x04#08004keyward: too many open streams, retry later";

/// Clients name no protocol in TLS (ALPN); one that does names this.
const ALPN: &[u8] = b"mysql";

/// `COM_QUIT`: the last packet of a client.
const QUIT: &[u8] = b"\x01\0\0\0\x01";

/// A session that is logged in at the server.
pub struct MysqlSession {
    opened: LoggedIn,
    at_server: SessionAtServer,
    /// `None`: every statement may be sent.
    kept: Option<EnforcedSettings>,
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
) -> Option<(ServiceStream, MysqlClient)> {
    let offers_tls = stream.offers_tls();
    let key = listener.login_key();
    let version = listener.server_version();
    let sent = client::SentGreeting::send(stream.socket(), offers_tls, version).await;
    let mut greeting = sent.ok()?;
    let mut answer = greeting.answer(stream.socket(), key).await;
    if matches!(answer, Ok(ClientReply::Tls)) {
        stream = stream.with_tls(ALPN).await?;
        answer = greeting.answer(stream.socket(), key).await;
    }
    let why = match answer {
        Ok(ClientReply::Login(client)) if stream.is_confidential() => {
            return Some((stream, *client));
        }
        Ok(ClientReply::Login(_) | ClientReply::Tls) => {
            "this listener is reached over the network: use TLS (ssl-mode=VERIFY_IDENTITY)"
        }
        Err(MysqlFormatError(why)) => why,
    };
    tracing::debug!(why, "a client of a database listener has not logged in");
    let bytes = greeting.last_packet(&error(&Refused::Client(why), None));
    send_last(&mut stream, &bytes).await;
    None
}

impl Greeting for MysqlClient {
    type Open = MysqlSession;

    const PROTOCOL: DatabaseProtocol = DatabaseProtocol::Mysql;

    async fn token(&mut self, stream: &mut ServiceStream) -> Result<Zeroizing<String>, Refused> {
        let token = MysqlClient::token(self, stream.socket()).await;
        token.map_err(|MysqlFormatError(why)| Refused::Client(why))
    }

    fn named(&self) -> ClientChoice<'_> {
        ClientChoice::Database { database: &self.database, user: &self.user }
    }

    async fn open(
        &mut self,
        _listener: &DatabaseListener,
        exchange: &mut ServiceExchange,
        agent: &Agent,
        permitted: PermittedLogin,
    ) -> Result<MysqlSession, Refused> {
        let kept = EnforcedSettings::of(permitted.permit(), Dialect::Mysql);
        if kept.is_some() && !is_safe_collation(self.charset) {
            let why = "a session that is read-only or has rules on statements has the character set utf8mb4, utf8mb3 or latin1";
            return Err(Refused::Client(why));
        }
        let is_recorded = is_recorded(permitted.permit());
        let agreed = NegotiatedOptions {
            flags: self.flags,
            charset: self.charset,
            packet_bytes_max: self.packet_bytes_max,
            program: format!("keyward/{}", agent.name),
        };
        let login = MysqlLogin::new(permitted, agreed)?;
        let opened = login.run(exchange).await?;
        let at_server = SessionAtServer::new(login, &opened);
        let log = is_recorded.then(|| exchange.statement_log());
        Ok(MysqlSession { opened, at_server, kept, log })
    }

    async fn run(
        mut self,
        open: MysqlSession,
        mut exchange: ServiceExchange,
        mut stream: ServiceStream,
    ) {
        if stream.is_owned() && self.skip(stream.socket()).await.is_err() {
            return;
        }
        let LoggedIn { upstream, welcome, .. } = open.opened;
        let welcome = self.last_packet(&welcome);
        if !send_first(&mut stream, &welcome).await {
            return;
        }
        let (agents, agent_ended) = watch_agent_end(stream.socket(), |read| read.ends_with(QUIT));
        let filter = MysqlFilter::new(open.kept, open.log);
        let agents = FilteredStream::new(agents, filter, BytesMut::new(), exchange.long_checks());
        let upstream = agent_ended.answers(upstream, packet::ends_answer);
        let end = exchange.splice(agents, upstream, || agent_ended.is_idle()).await;
        agent_ended.note(&mut exchange, end);
        if end == SessionEnd::Stopped && agent_ended.is_idle() {
            let last = packet::error(1053, "08S01", "keyward: the gateway stops");
            return send_last(&mut stream, &packet::packet(0, &last)).await;
        }
        if matches!(end, SessionEnd::Revoked | SessionEnd::Stopped | SessionEnd::Idle) {
            let gateway = stream.gateway.clone();
            // The client gets its message now, and the record is written.
            drop((stream, exchange));
            open.at_server.kill(&gateway).await;
        }
    }

    fn refusal(&self, refused: &Refused, exchange: Option<&str>) -> Vec<u8> {
        self.last_packet(&error(refused, exchange))
    }
}

/// A refusal as an error of MySQL: number, SQLSTATE and words.
fn error(refused: &Refused, exchange: Option<&str>) -> Vec<u8> {
    let words = refused.words(exchange);
    let (number, state) = match words.code {
        Some(Code::AgentUnauthenticated | Code::TooManyGuesses | Code::SessionExpired) => {
            (1045, "28000")
        }
        Some(Code::ConnectionMissing | Code::ConnectionAmbiguous) => (1049, "42000"),
        Some(Code::Denied | Code::PluginBlocked) => (1044, "42000"),
        Some(Code::Overloaded | Code::RateLimited) => (1040, "08004"),
        None => (1043, "08S01"),
        Some(_) => (1105, "HY000"),
    };
    packet::error(number, state, &words.line())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_streams_above_the_limit_is_a_whole_packet() {
        let words = "keyward: too many open streams, retry later";
        assert_eq!(OVERLOADED, packet::packet(0, &packet::error(1040, "08004", words)));
    }
}
