//! Logs in with a connection and asks the server for its version and edition.

use super::greeting::ClientHello;
use super::login::{BoltLogin, answer, ask, protocol};
use super::messages::{self, tag};
use super::packstream::{ValueReader, map_of_texts, put_map, put_text};
use crate::login::{DatabaseFacts, ServerError, UNKNOWN_VERSION, short};
use crate::refused::Refused;
use crate::upstream::Upstream;
use keyward_proxy::ServiceExchange;
use keyward_rules::policy::PermittedLogin;

/// The user may lack the right to ask, and other servers have no such procedure.
const COMPONENTS: &str =
    "CALL dbms.components() YIELD versions, edition RETURN versions[0], edition LIMIT 1";

/// Logs in and asks.
///
/// # Errors
/// When the server opens no session, or does not answer.
pub async fn facts(
    exchange: &mut ServiceExchange,
    permitted: PermittedLogin,
) -> Result<DatabaseFacts, Refused> {
    let settings = permitted.permit().wanted().settings.as_deref();
    let read_only = settings.and_then(|settings| settings.read_only).unwrap_or_default();
    let login = BoltLogin::new(permitted, "test")?;
    let product = concat!("keyward/", env!("CARGO_PKG_VERSION"));
    let own = ("bolt_agent".to_owned(), map_of_texts(&[("product", product)]));
    let hello = ClientHello { entries: vec![own], ..ClientHello::default() };
    let (mut upstream, welcome) = login.run(exchange, &hello, None).await?;
    let within = exchange.connect_timeout();
    let asked = tokio::time::timeout(within, components(&mut upstream)).await;
    let found = asked.unwrap_or(Err(ServerError::Timeout))?;
    let version = found.or_else(|| agent(&welcome)).unwrap_or_else(|| UNKNOWN_VERSION.to_owned());
    Ok(DatabaseFacts {
        version,
        user: login.user().to_owned(),
        read_only,
        ..DatabaseFacts::default()
    })
}

/// `5.26.0 (enterprise)`.
async fn components(upstream: &mut Upstream) -> Result<Option<String>, ServerError> {
    let mut run = vec![0xb3, tag::RUN];
    put_text(COMPONENTS, &mut run);
    put_map(0, &mut run);
    run.extend(map_of_texts(&[("mode", "r")]));
    let begun = ask(upstream, &run).await?;
    if !is_success(&begun)? {
        return Ok(None);
    }
    // All of it, which is one row.
    let pull = [&[0xb1, tag::PULL, 0xa1][..], &[0x81, b'n', 0xff]].concat();
    let mut row = ask(upstream, &pull).await?;
    let mut found = None;
    while let (tag::RECORD, _, mut fields) = messages::parts(&row).map_err(|_| protocol())? {
        found = found.or(shown(&mut fields));
        row = answer(upstream).await?;
    }
    Ok(found.filter(|_| is_success(&row).unwrap_or_default()))
}

fn is_success(message: &[u8]) -> Result<bool, ServerError> {
    let (tag, _, _) = messages::parts(message).map_err(|_| protocol())?;
    Ok(tag == tag::SUCCESS)
}

/// The texts of a row.
fn shown(fields: &mut ValueReader<'_>) -> Option<String> {
    let row = fields.list().ok()?;
    let text = |at: usize| ValueReader(row.get(at)?).text().ok().map(short);
    Some(format!("{} ({})", text(0)?, text(1)?))
}

/// What the server calls itself, without the product: `5.26.0`.
fn agent(welcome: &[u8]) -> Option<String> {
    let (_, map) = messages::metadata(welcome).ok()?;
    let agent = map.text("server")?;
    Some(short(agent.split_once('/').map_or(agent, |(_, version)| version)))
}
