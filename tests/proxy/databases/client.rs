//! A client of a listener for databases that sends exact bytes.

use std::net::SocketAddr;

use super::server::message;
use test_support::*;

/// Asks whether there is TLS.
pub(super) const TLS_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];

/// A stream to a listener, recorded for the canary.
pub(super) struct Client {
    pub(super) wire: Wire,
}

/// What a client is told instead of a session.
pub(super) type Refused = String;

impl Client {
    pub(super) async fn connect(lab: &Lab) -> Self {
        let at = lab.gateway.running().database_addrs()[0].at.tcp().expect("it is TCP");
        Self::at(lab, at).await
    }

    /// At another listener than the first of the configuration.
    pub(super) async fn at(lab: &Lab, at: SocketAddr) -> Self {
        Self { wire: lab.client_at(at).await }
    }

    /// A session for the connection `database`.
    pub(super) async fn open(lab: &Lab, token: &str, database: &str) -> Result<Self, Refused> {
        let mut client = Self::connect(lab).await;
        client.log_in(token, database).await?;
        Ok(client)
    }

    pub(super) async fn log_in(&mut self, token: &str, database: &str) -> Result<(), Refused> {
        self.wire.send(startup(database)).await;
        self.expect(b'R').await?;
        self.wire.send(message(b'p', &[token.as_bytes(), b"\0"].concat())).await;
        self.expect(b'Z').await?;
        Ok(())
    }

    /// The rows of a query, as text.
    pub(super) async fn query(&mut self, text: &str) -> Result<String, Refused> {
        self.wire.send(message(b'Q', &[text.as_bytes(), b"\0"].concat())).await;
        self.expect(b'Z').await
    }

    /// Reads up to a message of the kind; what came before it, as text.
    pub(super) async fn expect(&mut self, wanted: u8) -> Result<String, Refused> {
        let mut before = Vec::new();
        loop {
            let header = self.wire.exactly(5).await;
            let [tag, length @ ..] = &header[..] else {
                return Err(format!("closed after {:?}", String::from_utf8_lossy(&before)));
            };
            let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
            let body = self.wire.exactly(length - 4).await;
            let text = String::from_utf8_lossy(&body).replace('\0', "\n");
            match *tag {
                b'E' => return Err(text),
                tag if tag == wanted => return Ok(String::from_utf8_lossy(&before).into_owned()),
                _ => before.extend(body),
            }
        }
    }
}

/// A start-up message.
pub(super) fn startup(database: &str) -> Vec<u8> {
    let body = format!("user\0someone\0database\0{database}\0\0");
    let length = u32::try_from(body.len() + 8).expect("short");
    [&length.to_be_bytes()[..], &[0, 3, 0, 0], body.as_bytes()].concat()
}
