//! PostgreSQL, version 3.0 of its protocol. `serve` reads a client's first message; each stage has a file.

mod answers;
pub mod cancel;
#[cfg(test)]
mod hostile;
mod login;
mod messages;
mod parameters;
mod refused;
mod servers;
mod startup;
mod statements;
mod supervision;
pub mod test;
mod upstream;

use std::sync::Arc;

use zeroize::Zeroizing;

use self::cancel::CancelKey;
use self::login::{LoggedIn, PostgresLogin};
use self::messages::SessionStart;
use self::parameters::StartupParameters;
use self::startup::{ALPN, FirstMessage, PostgresFormatError, Startup};
#[cfg(test)]
pub use self::statements::{check::check, tokens};
use self::supervision::Supervision;
use crate::listener::{ClientChoice, DatabaseListener};
use crate::refused::Refused;
use crate::session::{self, Greeting, send_first, send_last};
use crate::upstream::Upstream;
use keyward_base::agent::Agent;
use keyward_base::database::DatabaseProtocol;
use keyward_proxy::{ServiceExchange, ServiceStream};
use keyward_rules::policy::PermittedLogin;

/// The answer to a stream above the limit: `FATAL`, SQLSTATE 53300, "too many open streams".
pub const OVERLOADED: &[u8] =
    b"E\0\0\0\x47SFATAL\0VFATAL\0C53300\0Mkeyward: too many open streams, retry later\0\0";

/// A session that is logged in at the server.
pub struct PostgresSession {
    upstream: Upstream,
    start: SessionStart,
    cancel: CancelKey,
    supervision: Supervision,
}

/// Serves one stream of a listener until it ends.
pub async fn serve(listener: Arc<DatabaseListener>, stream: ServiceStream) {
    let (gateway, place) = (stream.gateway.clone(), stream.place());
    let greeted = ServiceStream::while_unauthenticated(&gateway, &place, greeted(stream)).await;
    match greeted.flatten() {
        Some((stream, FirstMessage::Startup(startup))) => {
            session::run(&listener, stream, startup).await;
        }
        Some((_, FirstMessage::Cancel(key))) => listener.cancels().cancel(&gateway, key).await,
        // It sent nothing in time, or nothing that is understood, or was evicted.
        Some((_, FirstMessage::Tls)) | None => {}
    }
}

/// The client's first message, within TLS if it wants that.
async fn greeted(mut stream: ServiceStream) -> Option<(ServiceStream, FirstMessage)> {
    if stream.begins_with_tls().await {
        stream = stream.with_tls(ALPN).await?;
    }
    let offers_tls = stream.offers_tls();
    let mut first = startup::read(stream.socket(), offers_tls).await;
    if matches!(first, Ok(FirstMessage::Tls)) {
        stream = stream.with_tls(ALPN).await?;
        first = startup::read(stream.socket(), false).await;
    }
    let malformed = match first {
        Ok(FirstMessage::Startup(_)) if !stream.is_confidential() => PostgresFormatError::Cleartext,
        Ok(first) => return Some((stream, first)),
        Err(malformed) => malformed,
    };
    tracing::debug!(why = malformed.text(), "a client sent no start-up message");
    send_last(&mut stream, &refused::bytes(&malformed.into(), None)).await;
    None
}

impl Greeting for Startup {
    type Open = PostgresSession;

    const PROTOCOL: DatabaseProtocol = DatabaseProtocol::Postgres;

    async fn token(&mut self, stream: &mut ServiceStream) -> Result<Zeroizing<String>, Refused> {
        Ok(startup::password(stream.socket(), self).await?)
    }

    fn named(&self) -> ClientChoice<'_> {
        ClientChoice::Database { database: self.database(), user: self.user() }
    }

    async fn open(
        &mut self,
        listener: &DatabaseListener,
        exchange: &mut ServiceExchange,
        agent: &Agent,
        permitted: PermittedLogin,
    ) -> Result<PostgresSession, Refused> {
        let permit = permitted.permit().clone();
        let negotiation = self.negotiation().filter(|_| exchange.is_owned());
        let parameters = StartupParameters::of(std::mem::take(self), agent, &permit)?;
        let login = PostgresLogin::new(permitted, parameters)?.with_negotiation(negotiation);
        exchange.set_role(login.role());
        let (upstream, LoggedIn { start, permit, server_key }) = login.run(exchange).await?;
        let supervision = Supervision::of(&permit, exchange, start.server_version.as_deref());
        let cancel = listener.cancels().enter(permit, server_key);
        Ok(PostgresSession { upstream, start, cancel, supervision })
    }

    async fn run(self, open: PostgresSession, exchange: ServiceExchange, stream: ServiceStream) {
        open.run(exchange, stream).await;
    }

    fn refusal(&self, refused: &Refused, exchange: Option<&str>) -> Vec<u8> {
        refused::bytes(refused, exchange)
    }
}

impl PostgresSession {
    async fn run(self, mut exchange: ServiceExchange, mut stream: ServiceStream) {
        let Self { upstream, start, cancel, supervision } = self;
        if !send_first(&mut stream, &start.bytes(cancel.agent_key())).await {
            return;
        }
        let gateway = stream.gateway.clone();
        let is_running = supervision.copy(&mut exchange, stream, upstream).await;
        // The record is written now.
        drop(exchange);
        if is_running {
            cancel.cancel(&gateway).await;
        }
    }
}
