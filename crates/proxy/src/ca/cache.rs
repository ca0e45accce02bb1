//! [`LeafCache`]: a bounded cache of leaves by host. Concurrent requests for one host wait for one signature.
//! `leaf.rs` makes a leaf.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use lru::LruCache;
use parking_lot::Mutex;
use rustls::ServerConfig;

use super::CaError;
use super::authority::Authority;
use super::leaf::Leaf;
use super::signer::LeafSigner;
use keyward_base::host::Host;
use keyward_base::time::Clock;

/// Leaves by host; the least recently used is dropped when there are too many.
pub struct LeafCache {
    authority: Arc<Authority>,
    clock: Clock,
    slots: Mutex<LruCache<Vec<Host>, Arc<LeafSlot>>>,
    minted: AtomicU64,
}

/// The entry of one host. Its lock is held while the leaf is signed, so all requests for the host wait for one
/// signature; the lock of the cache is not held then.
#[derive(Default)]
struct LeafSlot(Mutex<Option<MintedLeaf>>);

/// A leaf and its signer, which must still be in use. The reference is weak, because a replaced CA must drop its
/// key.
struct MintedLeaf {
    leaf: Leaf,
    by: Weak<LeafSigner>,
}

impl LeafCache {
    /// `max`: leaves kept, at least one.
    pub fn new(authority: Arc<Authority>, max: usize, clock: Clock) -> Self {
        let max = NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN);
        // Grows as needed: the bound is far above what most installations see.
        let slots = Mutex::new(LruCache::sparse(max));
        Self { authority, clock, slots, minted: AtomicU64::new(0) }
    }

    /// The configuration for a host, cached or new. A leaf is replaced before it expires and when the CA was
    /// replaced. Making one blocks for one signature (tens of microseconds).
    ///
    /// # Errors
    /// When signing fails or the CA has expired.
    pub fn server_config(&self, host: &Host) -> Result<Arc<ServerConfig>, CaError> {
        self.shared_config(std::slice::from_ref(host))
    }

    /// The same with one leaf for all of these hosts.
    ///
    /// # Errors
    /// When signing fails or the CA has expired.
    pub fn shared_config(&self, hosts: &[Host]) -> Result<Arc<ServerConfig>, CaError> {
        let slot = Arc::clone(self.slots.lock().get_or_insert_ref(hosts, Arc::default));
        let mut place = slot.0.lock();
        let signer = self.authority.signer();
        let now = self.clock.now();
        match &*place {
            Some(minted) if minted.is_of(&signer) && minted.leaf.is_fresh(now) => {
                Ok(Arc::clone(&minted.leaf.config))
            }
            _ => {
                let leaf = Leaf::mint(&signer, hosts, now)?;
                self.minted.fetch_add(1, Ordering::Relaxed);
                let minted = MintedLeaf { leaf, by: Arc::downgrade(&signer) };
                Ok(Arc::clone(&place.insert(minted).leaf.config))
            }
        }
    }

    /// How many leaves were minted, for metrics and tests.
    pub fn minted(&self) -> u64 {
        self.minted.load(Ordering::Relaxed)
    }

    /// How many are kept now.
    pub fn kept(&self) -> usize {
        self.slots.lock().len()
    }
}

impl MintedLeaf {
    fn is_of(&self, signer: &Arc<LeafSigner>) -> bool {
        std::ptr::eq(self.by.as_ptr(), Arc::as_ptr(signer))
    }
}

impl fmt::Debug for LeafCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeafCache")
            .field("kept", &self.kept())
            .field("minted", &self.minted())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicI64;
    use std::thread;

    use jiff::Timestamp;
    use rustls::{
        ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection,
        SupportedProtocolVersion,
    };
    use rustls_pki_types::ServerName;

    use super::*;
    use keyward_net::tls;

    const DAY_MS: i64 = 86_400_000;

    fn host(text: &str) -> Host {
        Host::parse(text).expect(text)
    }

    fn leaves(max: usize) -> LeafCache {
        LeafCache::new(Arc::new(Authority::ephemeral()), max, Clock::System)
    }

    fn client(authority: &Authority, version: &'static SupportedProtocolVersion) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(authority.cert_der()).expect("root");
        let builder = ClientConfig::builder_with_provider(tls::provider());
        let builder = builder.with_protocol_versions(&[version]).expect("version");
        builder.with_root_certificates(roots).with_no_client_auth()
    }

    /// Shakes hands in memory, up to the first session ticket.
    fn handshake(
        config: &Arc<ClientConfig>,
        leaves: &LeafCache,
        asked: &str,
        answered: &str,
    ) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
        let name = ServerName::try_from(asked.to_owned()).expect("name");
        let mut client = ClientConnection::new(Arc::clone(config), name)?;
        let config = leaves.server_config(&host(answered)).expect("leaf");
        let mut server = ServerConnection::new(config)?;
        while client.wants_write() || server.wants_write() {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).expect("write");
            }
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                server.read_tls(&mut rest).expect("read");
                server.process_new_packets()?;
            }
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire).expect("write");
            }
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                client.read_tls(&mut rest).expect("read");
                client.process_new_packets()?;
            }
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok((client, server))
    }

    #[test]
    fn above_the_limit_the_least_recently_used_leaf_is_dropped() {
        let leaves = leaves(3);
        for name in ["a.test", "b.test", "c.test", "a.test", "d.test"] {
            leaves.server_config(&host(name)).expect(name);
        }
        assert_eq!((leaves.kept(), leaves.minted()), (3, 4));
        leaves.server_config(&host("a.test")).expect("kept");
        assert_eq!(leaves.minted(), 4);
        leaves.server_config(&host("b.test")).expect("minted again");
        assert_eq!((leaves.kept(), leaves.minted()), (3, 5));
    }

    #[test]
    fn two_hundred_requests_for_fifty_hosts_mint_fifty_leaves() {
        let leaves = leaves(100);
        let start = Barrier::new(200);
        let configs = thread::scope(|scope| {
            let ask = |index: usize| {
                let (leaves, start) = (&leaves, &start);
                scope.spawn(move || {
                    start.wait();
                    leaves.server_config(&host(&format!("h{}.test", index % 50))).expect("leaf")
                })
            };
            let asked: Vec<_> = (0..200).map(ask).collect();
            asked.into_iter().map(|t| t.join().expect("thread")).collect::<Vec<_>>()
        });
        assert_eq!((leaves.minted(), leaves.kept()), (50, 50));
        let distinct: HashSet<_> = configs.iter().map(Arc::as_ptr).collect();
        assert_eq!(distinct.len(), 50);
    }

    #[test]
    fn a_leaf_is_renewed_before_it_expires_and_when_the_clock_was_set_back() {
        let start = Timestamp::now().as_millisecond();
        let now = Arc::new(AtomicI64::new(start));
        let clock = Clock::Fixed(Arc::clone(&now));
        let leaves = LeafCache::new(Arc::new(Authority::ephemeral()), 8, clock);
        let minted_at = |offset: i64| {
            now.store(start + offset, Ordering::SeqCst);
            leaves.server_config(&host("api.test")).expect("leaf");
            leaves.minted()
        };
        assert_eq!(minted_at(0), 1);
        assert_eq!(minted_at(19 * DAY_MS), 1);
        assert_eq!(minted_at(21 * DAY_MS), 2);
        assert_eq!(minted_at(40 * DAY_MS), 2);
        assert_eq!(minted_at(42 * DAY_MS), 3);
        assert_eq!(minted_at(0), 4);
        now.store(start + 4_000 * DAY_MS, Ordering::SeqCst);
        let expired = leaves.server_config(&host("api.test"));
        assert!(matches!(expired, Err(CaError::Expired)));
    }

    #[test]
    fn a_client_that_asked_for_another_host_refuses_the_leaf() {
        let leaves = leaves(8);
        let config = Arc::new(client(&leaves.authority, &rustls::version::TLS13));
        let result = handshake(&config, &leaves, "other.test", "api.test").map(drop);
        assert!(matches!(result, Err(rustls::Error::InvalidCertificate(_))), "{result:?}");
    }

    #[test]
    fn clients_of_tls_1_2_and_1_3_complete_the_handshake_and_get_only_the_leaf() {
        let leaves = leaves(8);
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            for name in ["api.test", "192.0.2.1"] {
                let mut config = client(&leaves.authority, version);
                // In this order, as httpx has it.
                config.alpn_protocols = vec![tls::ALPN_HTTP1.to_vec(), tls::ALPN_HTTP2.to_vec()];
                let config = Arc::new(config);
                let (client, _) = handshake(&config, &leaves, name, name).expect(name);
                assert_eq!(client.protocol_version(), Some(version.version));
                assert_eq!(client.alpn_protocol(), Some(tls::ALPN_HTTP2));
                assert_eq!(client.peer_certificates().map(<[_]>::len), Some(1));
                let suite = client.negotiated_cipher_suite().map(|s| format!("{:?}", s.suite()));
                assert!(suite.is_some_and(|suite| suite.contains("AES_128_GCM")));
            }
        }
    }

    #[test]
    fn a_client_that_offers_neither_http1_nor_http2_fails_the_handshake() {
        let leaves = leaves(8);
        let mut config = client(&leaves.authority, &rustls::version::TLS13);
        config.alpn_protocols = vec![b"h3".to_vec()];
        assert!(handshake(&Arc::new(config), &leaves, "api.test", "api.test").is_err());
    }

    #[test]
    fn sessions_are_resumed_by_ticket_also_with_a_new_leaf() {
        let leaves = leaves(1);
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let config = Arc::new(client(&leaves.authority, version));
            let kind = || {
                let ended = handshake(&config, &leaves, "api.test", "api.test");
                ended.expect("handshake").0.handshake_kind()
            };
            assert_eq!(kind(), Some(HandshakeKind::Full));
            assert_eq!(kind(), Some(HandshakeKind::Resumed));
            leaves.server_config(&host("other.test")).expect("takes the only place");
            let minted = leaves.minted();
            assert_eq!(kind(), Some(HandshakeKind::Resumed), "{:?}", version.version);
            assert_eq!(leaves.minted(), minted + 1);
        }
    }

    #[test]
    fn one_ticket_is_sent_after_a_handshake() {
        let leaves = leaves(8);
        let config = leaves.server_config(&host("api.test")).expect("leaf");
        assert_eq!(config.send_tls13_tickets, 1);
        assert!(config.ignore_client_order && config.ticketer.enabled());
        assert_eq!(config.max_early_data_size, 0);
    }
}
