//! Tunnels through the gateway of a lab, and TLS in them.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::super::pki::trusting;
use super::super::wire::{Message, Wire, patiently};
use super::Lab;

impl Lab {
    /// Sends a CONNECT as `ci` and gives the answer with the stream.
    pub async fn connect(&self, target: &str) -> (Message, Wire) {
        let mut wire = self.client().await;
        let authorization = self.authorization("ci");
        wire.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n"))
            .await;
        (wire.answer("CONNECT").await, wire)
    }

    /// An intercepted tunnel of `ci` to port 443 of `host`, TLS done.
    pub async fn tunnel(&self, host: &str) -> Wire {
        self.tunnel_as("ci", host).await
    }

    /// The same of an agent.
    pub async fn tunnel_as(&self, agent: &str, host: &str) -> Wire {
        self.tunnel_to(agent, &format!("{host}:443"), host).await
    }

    /// An intercepted tunnel of `agent` to `target`, asking for `sni`.
    pub async fn tunnel_to(&self, agent: &str, target: &str, sni: &str) -> Wire {
        let mut wire = self.client().await;
        let authorization = self.authorization(agent);
        wire.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n"))
            .await;
        let answer = wire.answer("CONNECT").await;
        assert_eq!(answer.head.status(), 200, "{answer:?}");
        self.secure(wire, sni).await
    }

    /// TLS over an open tunnel, trusting Keyward's CA only.
    ///
    /// # Panics
    /// When the handshake fails.
    pub async fn secure(&self, wire: Wire, sni: &str) -> Wire {
        self.try_secure(wire, sni).await.expect("the handshake")
    }

    /// As [`Lab::secure`].
    pub async fn try_secure(&self, wire: Wire, sni: &str) -> std::io::Result<Wire> {
        self.secure_trusting(&self.gateway.ca_pem, wire, sni).await
    }

    /// As [`Lab::secure`], offering `protocols` by ALPN; what Keyward chose is the other answer.
    pub async fn secure_offering(
        &self,
        wire: Wire,
        sni: &str,
        protocols: &[&[u8]],
    ) -> (Wire, Option<Vec<u8>>) {
        let (io, socket, seen) = wire.into_parts();
        let mut tls = rustls::ClientConfig::clone(&trusting(&self.gateway.ca_pem));
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from(sni.to_owned()).expect("a server name");
        let connecting = TlsConnector::from(Arc::new(tls)).connect(name, io);
        let tls = patiently("the handshake", connecting).await.expect("the handshake");
        let alpn = tls.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        (Wire::over(tls, socket, seen), alpn)
    }

    /// As [`Lab::secure`], of a client that sends no SNI and verifies `name`.
    pub async fn secure_without_sni(&self, wire: Wire, name: &str) -> Wire {
        let (io, socket, seen) = wire.into_parts();
        let mut tls = rustls::ClientConfig::clone(&trusting(&self.gateway.ca_pem));
        tls.enable_sni = false;
        let name = ServerName::try_from(name.to_owned()).expect("a server name");
        let connecting = TlsConnector::from(Arc::new(tls)).connect(name, io);
        let tls = patiently("the handshake", connecting).await.expect("the handshake");
        Wire::over(tls, socket, seen)
    }

    /// As [`Lab::try_secure`], trusting the certificates in `pem`.
    pub async fn secure_trusting(&self, pem: &str, wire: Wire, sni: &str) -> std::io::Result<Wire> {
        let (io, socket, seen) = wire.into_parts();
        let connector = TlsConnector::from(trusting(pem));
        let name = ServerName::try_from(sni.to_owned()).expect("a server name");
        let tls = patiently("the handshake", connector.connect(name, io)).await?;
        Ok(Wire::over(tls, socket, seen))
    }
}
