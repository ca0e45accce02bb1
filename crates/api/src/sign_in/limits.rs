//! [`SignInLimits`]: how often clients may try to sign in, and how many passwords are checked at once.
//!
//! Guesses must not lock the owner out. A network from which the user signed in before has a budget of its own for that
//! user; the budgets of the user and of the address are those of all others. A link is accepted in any case.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use keyward_base::limits::Limits;
use keyward_base::secret::{PasswordHash, Secret};
use keyward_base::settings::Rate;
use keyward_base::time::whole_seconds;
use keyward_proxy::{AuthFailures, LimitSpace, SharedLimits};
use keyward_state::crypto::password;
use keyward_state::crypto::token::TokenHash;
use tokio::sync::Semaphore;

use crate::error::ApiError;
use crate::request_refusal::RequestRefusal;

/// Passwords tried from one address, or of one user from a known network, per minute.
const TRIES_PER_MINUTE_MAX: u32 = 10;

/// Passwords of one user tried from all networks that are not known, per minute.
const TRIES_OF_USER_PER_MINUTE_MAX: u32 = 20;

/// One-time codes of one user, from one known network or from all others, per hour. Three of a million codes are valid,
/// so guesses by someone who has the password take two years on average.
const CODES_PER_HOUR_MAX: u32 = 20;

/// Passwords that are hashed at once: each takes 19 MiB and a core.
const AT_ONCE: usize = 2;

/// Sign-ins that wait for that; more are refused.
const WAITING_MAX: usize = 32;

/// How long one waits at most.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Failures are counted by the network of the client. A valid link is always accepted: it has 256 random bits, so the
/// limit only has to keep guesses cheap.
#[derive(Debug)]
pub(crate) struct SignInLimits {
    links: AuthFailures,
    shared: Arc<SharedLimits>,
    hashing: Semaphore,
    waiting: Semaphore,
}

/// The key of a budget of attempts.
#[derive(Clone, Copy, Debug)]
enum TryBudget {
    Address(IpAddr),
    User(TokenHash),
    UserFrom(TokenHash, IpAddr),
    Codes(TokenHash),
    CodesFrom(TokenHash, IpAddr),
}

/// A try to sign in with a password.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PasswordTry<'a> {
    /// The organisation's name as the request has it.
    pub(crate) org: &'a str,
    /// The user's name, likewise.
    pub(crate) user: &'a str,
    /// Where it comes from.
    pub(crate) network: IpAddr,
    /// Whether the user signed in from there before.
    pub(crate) is_known: bool,
}

/// A one-time code beside a right password.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeTry<'a> {
    /// The id of the user.
    pub(crate) user: &'a str,
    /// Where it comes from.
    pub(crate) network: IpAddr,
    /// Whether the user signed in from there before.
    pub(crate) is_known: bool,
}

impl SignInLimits {
    pub(crate) fn new(limits: &Limits, shared: &Arc<SharedLimits>) -> Self {
        let max = limits.auth_failures_per_minute_max;
        Self {
            links: AuthFailures::new(shared.clone(), LimitSpace::SignInLinks, max),
            shared: shared.clone(),
            hashing: Semaphore::new(AT_ONCE),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }

    /// Takes a try of a password from its budgets, before the password is checked: tries at once cannot exceed them.
    ///
    /// # Errors
    /// When one of them is used up.
    pub(crate) fn try_password(&self, tried: PasswordTry<'_>) -> Result<(), RequestRefusal> {
        let user = TokenHash::of(&format!("{}/{}", tried.org, tried.user));
        match tried.is_known {
            true => self.take(
                TryBudget::UserFrom(user, tried.network),
                Rate::per_minute(TRIES_PER_MINUTE_MAX),
            ),
            false => {
                let address = TryBudget::Address(tried.network);
                self.take(address, Rate::per_minute(TRIES_PER_MINUTE_MAX))?;
                self.take(TryBudget::User(user), Rate::per_minute(TRIES_OF_USER_PER_MINUTE_MAX))
            }
        }
    }

    /// The same of a one-time code, which comes with the right password.
    ///
    /// # Errors
    /// When the budget is used up.
    pub(crate) fn try_code(&self, tried: CodeTry<'_>) -> Result<(), RequestRefusal> {
        let user = TokenHash::of(tried.user);
        let budget = match tried.is_known {
            true => TryBudget::CodesFrom(user, tried.network),
            false => TryBudget::Codes(user),
        };
        self.take(budget, Rate::per_hour(CODES_PER_HOUR_MAX))
    }

    fn take(&self, budget: TryBudget, rate: Rate) -> Result<(), RequestRefusal> {
        let taken = self.shared.take(LimitSpace::SignIns, budget.text().as_bytes(), rate);
        taken.map_err(|wait| RequestRefusal::SignInFailures { retry_after: whole_seconds(wait) })
    }

    /// Whether a password is that of the hash; without one it takes as long.
    ///
    /// # Errors
    /// When too many are being checked.
    pub(crate) async fn matches(
        &self,
        given: Secret,
        known: Option<PasswordHash>,
    ) -> Result<bool, ApiError> {
        self.hashing(move || password::matches(&given, known.as_ref())).await
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// As [`SignInLimits::matches`].
    pub(crate) async fn hash(&self, given: Secret) -> Result<PasswordHash, ApiError> {
        let hash = self.hashing(move || password::hash(&given)).await?;
        hash.ok_or_else(|| RequestRefusal::SignInsBusy.into())
    }

    /// Runs work that takes a core, on a thread for blocking work.
    async fn hashing<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let busy = || ApiError::from(RequestRefusal::SignInsBusy);
        let _waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        let turn = tokio::time::timeout(WAIT_MAX, self.hashing.acquire()).await;
        let _turn = turn.map_err(|_| busy())?.map_err(ApiError::internal)?;
        tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)
    }

    /// Counts a link that does not work.
    ///
    /// # Errors
    /// When there were too many from this network.
    pub(super) fn failed(&self, client: IpAddr) -> Result<(), RequestRefusal> {
        match self.links.failed(Some(network(client))) {
            None => Ok(()),
            Some(wait) => Err(RequestRefusal::SignInFailures { retry_after: whole_seconds(wait) }),
        }
    }
}

impl TryBudget {
    /// The same at all replicas, and different for each budget.
    fn text(self) -> String {
        match self {
            Self::Address(network) => format!("address {network}"),
            Self::User(user) => format!("user {}", user.to_hex()),
            Self::UserFrom(user, network) => format!("user {} from {network}", user.to_hex()),
            Self::Codes(user) => format!("codes {}", user.to_hex()),
            Self::CodesFrom(user, network) => format!("codes {} from {network}", user.to_hex()),
        }
    }
}

/// The address of an IPv4 client; the /64 of an IPv6 client, who can choose among its addresses.
pub(crate) fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(user: &str, network: &str, is_known: bool) -> PasswordTry<'static> {
        let user = if user == "ann" { "ann" } else { "bob" };
        PasswordTry { org: "default", user, network: network.parse().unwrap(), is_known }
    }

    #[tokio::test(start_paused = true)]
    async fn password_guesses_from_many_addresses_do_not_lock_out_a_known_network() {
        let limits = SignInLimits::new(&Limits::default(), &SharedLimits::new(None).unwrap());
        let fails = |tried| limits.try_password(tried).is_err();
        let mut refused = 0;
        for address in 1..=40 {
            refused += u32::from(fails(tried("ann", &format!("203.0.113.{address}"), false)));
        }
        assert_eq!(refused, 20, "40 addresses, 20 guesses");
        assert!(!fails(tried("ann", "192.0.2.1", true)), "the owner, from a known network");
        assert!(fails(tried("ann", "192.0.2.2", false)));
        assert!(!fails(tried("bob", "192.0.2.3", false)), "another user");
        for _ in 0..10 {
            limits.try_password(tried("ann", "192.0.2.4", true)).unwrap();
        }
        assert!(fails(tried("ann", "192.0.2.4", true)), "a known network has a limit too");
        assert!(!fails(tried("ann", "192.0.2.1", true)));
        let mut refused = 0;
        for _ in 0..12 {
            refused += u32::from(fails(tried("bob", "192.0.2.9", false)));
        }
        assert_eq!(refused, 2, "one address, 10 guesses");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!fails(tried("ann", "203.0.113.1", false)));
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_of_codes_are_limited_and_do_not_lock_out_a_known_network() {
        let limits = SignInLimits::new(&Limits::default(), &SharedLimits::new(None).unwrap());
        let fails = |network: &str, is_known| {
            let network = network.parse().unwrap();
            limits.try_code(CodeTry { user: "usr_a", network, is_known }).is_err()
        };
        let guesses = (1..=60).filter(|at| !fails(&format!("203.0.113.{at}"), false)).count();
        assert_eq!(guesses, 20, "from all networks together, in an hour");
        assert!(!fails("192.0.2.1", true), "the owner, from a known network");
        tokio::time::advance(Duration::from_secs(180)).await;
        assert!(!fails("203.0.113.1", false) && fails("203.0.113.2", false));
    }

    #[tokio::test(start_paused = true)]
    async fn the_addresses_of_one_ipv6_network_share_the_limit_of_guesses() {
        let limits = Limits { auth_failures_per_minute_max: 1, ..Limits::default() };
        let limits = SignInLimits::new(&limits, &SharedLimits::new(None).unwrap());
        let fails = |client: &str| limits.failed(client.parse().unwrap()).is_err();
        assert!(!fails("2001:db8::1"));
        assert!(fails("2001:db8::2"));
        assert!(!fails("2001:db8:0:1::1"));
        assert!(!fails("192.0.2.1"));
        assert!(fails("::ffff:192.0.2.1"));
    }
}
