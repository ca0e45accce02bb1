//! Logins of users in browsers: their validity, and the links that users sign in with. Each login is a row. Its user is
//! checked when the login is used, so that a pause or a new role has effect at once.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::error::DirectoryError;
use super::index::{Index, NameKind, Unique};
use super::records::{Person, UserCredential};
use super::rows::RowId;
use super::stored::{Stored, stored_in};
use super::view::View;
use super::{Directory, DirectoryWriter};
use crate::crypto::token::{self, TokenHash};
use crate::store::Table;
use keyward_base::id::{LoginId, OrgId, UserId};
use keyward_base::secret::{PasswordHash, Secret};
use keyward_model::{
    LOGIN_LINKS_MAX, LOGINS_MAX, LinkMaker, Login, LoginFacts, LoginLink, LoginSpec,
    MakerCredential, ManagedBy, Record, Refusal, Role, Scope, User,
};

/// A new login, with the token of its cookie.
#[derive(Debug)]
pub struct NewLogin {
    pub login: Arc<Record<Login>>,
    /// The token. Wiped on drop.
    pub token: Secret,
}

/// The terms of a new login.
#[derive(Clone, Debug)]
pub struct LoginTerms {
    /// When the login ends, even if it is used.
    pub expires: Timestamp,
    /// Expiry of the personal token that the rights of the login come from.
    pub token_ends: Option<Timestamp>,
    /// The password that the user signed in with, and must still have.
    pub password: Option<PasswordHash>,
}

/// The bounds of a login that is made with a link.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoginBounds {
    /// When the login ends at the latest.
    pub until: Option<Timestamp>,
    /// Expiry of the personal token that the rights of the login come from.
    pub token_ends: Option<Timestamp>,
}

/// A link to make.
#[derive(Clone, Debug)]
pub struct NewLink {
    pub expires: Timestamp,
    pub bounds: LoginBounds,
    /// `None` for the operator.
    pub maker: Option<LinkMaker>,
}

#[derive(Clone, Debug)]
pub struct UsedLink {
    /// The user who signs in.
    pub user: Arc<Record<User>>,
    pub bounds: LoginBounds,
}

impl Stored for Login {
    const TABLE: Table = Table::Logins;
    const NAMED: NameKind = NameKind::Login;

    stored_in!(logins);

    /// Found by its id alone.
    fn full_name(record: &Record<Self>) -> Cow<'_, str> {
        Cow::Borrowed(record.id.as_str())
    }

    fn unique(record: &Record<Self>, index: &Index) -> Vec<Unique> {
        index.unique_token(&record.facts.hash).into_iter().collect()
    }

    fn add_to_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        if let Some(hash) = TokenHash::from_hex(&record.facts.hash) {
            view.logins.live.put(hash, Arc::clone(record), |login| login.id == record.id);
        }
    }

    fn remove_from_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        if let Some(hash) = TokenHash::from_hex(&record.facts.hash) {
            view.logins.live.remove(&hash, |login| login.id == record.id);
        }
    }

    /// Runs with the write lock, so that a user who was paused meanwhile cannot sign in.
    fn may_add(record: &Record<Self>, view: &View) -> Result<(), DirectoryError> {
        match view.user_of_login(record) {
            Some(_) => Ok(()),
            None => Err(may_not_sign_in(record.user.as_str()).into()),
        }
    }
}

impl Directory {
    /// Makes a login with an issued token. If the user has too many, the oldest ends.
    ///
    /// # Errors
    /// When the user was removed, is paused, or is an end user; [`DirectoryError::Changed`] when the user has another
    /// password now.
    pub async fn add_login(
        &self,
        org: &OrgId,
        spec: LoginSpec,
        terms: LoginTerms,
    ) -> Result<NewLogin, DirectoryError> {
        let LoginTerms { expires, token_ends, password } = terms;
        let token = token::issue_login_token();
        let hash = TokenHash::of_secret(&token).to_hex();
        let now = self.shared.clock.now();
        let facts = LoginFacts { hash, expires, last_used: now, token_ends };
        let record = Record::<Login>::new(org, ManagedBy::Store, spec, facts, now);
        let login = self.write(move |writer| async move {
            let view = writer.view.load_full();
            if let Some(user) = record.user.id() {
                let mut others: Vec<_> = view.logins_of(&record.org, user).collect();
                others.sort_by_key(|login| login.created);
                let surplus = (others.len() + 1).saturating_sub(LOGINS_MAX);
                for oldest in &others[..surplus] {
                    writer.end_login(oldest).await?;
                }
            }
            let login = writer.add(record).await?;
            if let Some(password) = &password {
                writer.check_password(&login, password).await?;
            }
            Ok(login)
        });
        Ok(NewLogin { login: login.await?, token })
    }

    /// Stores the time of use of a login, unless it was stored less than `every` ago.
    ///
    /// # Errors
    /// When it has ended, or the store fails.
    pub async fn use_login(
        &self,
        login: &Record<Login>,
        every: Duration,
    ) -> Result<(), DirectoryError> {
        let now = self.shared.clock.now();
        let note = |login: &mut Record<Login>| {
            if is_past(login.facts.last_used, every, now) {
                login.facts.last_used = now;
            }
        };
        self.change::<Login>(&login.org, &login.id, note).await.map(drop)
    }

    /// Ends all logins of a user except one, and removes the links.
    ///
    /// # Errors
    /// When the store fails; some may have ended.
    pub async fn end_logins(
        &self,
        org: &OrgId,
        user: &UserId,
        but: Option<&LoginId>,
    ) -> Result<usize, DirectoryError> {
        let view = self.view();
        let ended: Vec<_> =
            view.logins_of(org, user).filter(|login| Some(&login.id) != but).cloned().collect();
        let count = ended.len();
        self.write(move |writer| async move {
            for login in &ended {
                writer.end_login(login).await?;
            }
            Ok(())
        })
        .await?;
        if view.one::<User>(org, user).is_some_and(|user| !user.facts.login_links.is_empty()) {
            self.change::<User>(org, user, |user| user.facts.login_links.clear()).await?;
        }
        Ok(count)
    }

    /// Removes the logins that have expired, were not used for `idle`, or whose user was removed.
    ///
    /// # Errors
    /// When the store fails; the next call tries again.
    pub async fn remove_ended_logins(&self, idle: Duration) -> Result<usize, DirectoryError> {
        let (view, now) = (self.view(), self.shared.clock.now());
        let all = view.each_org().flat_map(|org| org.logins.values());
        let is_kept =
            |login: &Record<Login>| is_login_live(login, idle, now) && has_user(&view, login);
        let ended: Vec<_> = all.filter(|login| !is_kept(login)).cloned().collect();
        let mut removed = 0;
        for login in ended {
            if is_login_live(&login, idle, now) {
                if let Some(user) = login.user.id() {
                    self.follow_record::<User>(&login.org, user).await?;
                }
                if has_user(&self.view(), &login) {
                    continue;
                }
            }
            self.write(move |writer| async move { writer.end_login(&login).await }).await?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Makes a link that signs a user in once, and returns its token.
    ///
    /// # Errors
    /// When the user was removed, is paused, or is an end user.
    pub async fn add_login_link(
        &self,
        org: &OrgId,
        user: &UserId,
        NewLink { expires, bounds, maker }: NewLink,
    ) -> Result<Secret, DirectoryError> {
        let (token, now) = (token::issue_link_token(), self.shared.clock.now());
        let hash = TokenHash::of_secret(&token).to_hex();
        let LoginBounds { until: login_until, token_ends } = bounds;
        let link = LoginLink { hash, expires, login_until, token_ends, maker };
        let add = |user: &mut Record<User>| {
            if !user.may_sign_in() {
                return Err(may_not_sign_in(&user.name).into());
            }
            let links = &mut user.facts.login_links;
            links.retain(|link| now < link.expires);
            let surplus = (links.len() + 1).saturating_sub(LOGIN_LINKS_MAX);
            links.drain(..surplus);
            links.push(link.clone());
            Ok(())
        };
        self.edit::<User, DirectoryError>(org, user, &add).await?;
        Ok(token)
    }

    /// Uses a link, once: of several callers, one succeeds.
    ///
    /// # Errors
    /// [`DirectoryError::LinkUsed`] when it is unknown, expired or used, its user may not sign in, or its maker may no
    /// longer make it.
    pub async fn use_login_link(&self, link: &Secret) -> Result<UsedLink, DirectoryError> {
        let (view, now) = (self.view(), self.shared.clock.now());
        let hash = token::hash_of_link(link).ok_or(DirectoryError::LinkUsed)?;
        let user = view.logins.links.get(&hash).ok_or(DirectoryError::LinkUsed)?;
        let is_it = |link: &LoginLink| {
            TokenHash::from_hex(&link.hash).is_some_and(|known| known.matches(&hash))
        };
        let found = parking_lot::Mutex::new(None);
        let take = |user: &mut Record<User>| {
            let links = &mut user.facts.login_links;
            let at = links.iter().position(is_it).ok_or(DirectoryError::LinkUsed)?;
            let link = links.remove(at);
            let is_made = link
                .maker
                .as_ref()
                .is_none_or(|maker| self.view().may_make_links(&user.org, maker, now));
            if now >= link.expires || !user.spec.may_sign_in() || !is_made {
                return Err(DirectoryError::LinkUsed);
            }
            *found.lock() = Some(link);
            Ok(())
        };
        let user = match self.edit::<User, DirectoryError>(&user.org, &user.id, &take).await {
            // The user was removed meanwhile.
            Err(DirectoryError::NotFound { .. }) => Err(DirectoryError::LinkUsed),
            taken => taken,
        }?;
        let bounds = found.into_inner().map(|LoginLink { login_until, token_ends, .. }| {
            LoginBounds { until: login_until, token_ends }
        });
        Ok(UsedLink { user, bounds: bounds.unwrap_or_default() })
    }
}

impl DirectoryWriter {
    /// Ends a login, unless a request has ended it.
    async fn end_login(&self, login: &Record<Login>) -> Result<(), DirectoryError> {
        let at = RowId::new(Table::Logins, &login.org, &login.id);
        let removed = self.remove::<Login>(&at, ManagedBy::Store, &|_| true).await;
        DirectoryError::unless_removed(removed)
    }

    /// Ends a new login if the password of the user was replaced meanwhile. The login is stored first: another replica
    /// that replaces the password either does so before this check, or finds the login and ends it.
    async fn check_password(
        &self,
        login: &Record<Login>,
        password: &PasswordHash,
    ) -> Result<(), DirectoryError> {
        let at = RowId::new(Table::Users, &login.org, login.user.as_str());
        let user = self.read::<User>(&at).await?.record;
        if user.facts.password.as_ref() == Some(password) {
            return Ok(());
        }
        self.end_login(login).await?;
        Err(DirectoryError::Changed { what: "user", name: user.name().to_owned() })
    }
}

impl View {
    /// The user and the login of a cookie with this token. `None` when the login has ended or was not used for `idle`,
    /// or its user may no longer sign in.
    pub fn signed_in(
        &self,
        token: &str,
        idle: Duration,
        now: Timestamp,
    ) -> Option<(Person, Arc<Record<Login>>)> {
        let hash = TokenHash::of(token);
        let login = self.logins.live.get(&hash)?;
        let known = TokenHash::from_hex(&login.facts.hash)?;
        let user = self.user_of_login(login).filter(|_| known.matches(&hash))?;
        is_login_live(login, idle, now).then(|| {
            let scopes = Arc::from([Scope::All]);
            let person = Person {
                user: Arc::clone(user),
                credential: UserCredential::Login(login.id.clone()),
                scopes,
                ends: Some(login.facts.expires),
                token_ends: login.facts.token_ends,
            };
            (person, Arc::clone(login))
        })
    }

    /// Whether a login has not ended. The caller checks its user.
    pub fn is_login_valid(
        &self,
        org: &OrgId,
        id: &LoginId,
        idle: Duration,
        now: Timestamp,
    ) -> bool {
        self.one::<Login>(org, id).is_some_and(|login| is_login_live(login, idle, now))
    }

    /// The logins of a user, also those that have ended but were not removed yet.
    pub fn logins_of<'a>(
        &'a self,
        org: &OrgId,
        user: &'a UserId,
    ) -> impl Iterator<Item = &'a Arc<Record<Login>>> {
        self.all::<Login>(org).filter(move |login| login.user.id() == Some(user))
    }

    /// Whether there is no user yet, in any organisation.
    pub fn has_no_user(&self) -> bool {
        self.each_org().all(|org| org.users.values().next().is_none())
    }

    /// Adds the links of a user to the index.
    pub(super) fn add_links_of(&mut self, user: &Arc<Record<User>>) {
        for link in &user.facts.login_links {
            if let Some(hash) = TokenHash::from_hex(&link.hash) {
                self.logins.links.put(hash, Arc::clone(user), |of| of.id == user.id);
            }
        }
    }

    /// Removes the links of a user from the index.
    pub(super) fn remove_links_of(&mut self, user: &Record<User>) {
        for link in &user.facts.login_links {
            if let Some(hash) = TokenHash::from_hex(&link.hash) {
                self.logins.links.remove(&hash, |of| of.id == user.id);
            }
        }
    }

    /// Whether the maker of a link is still an admin, and what they made it with has not ended.
    fn may_make_links(&self, org: &OrgId, maker: &LinkMaker, now: Timestamp) -> bool {
        self.one::<User>(org, &maker.user).is_some_and(|user| {
            let has_credential = match &maker.with {
                MakerCredential::Token(id) => {
                    user.facts.tokens.iter().any(|token| token.id == *id && token.is_live(now))
                }
                // A link lives for minutes, so that the idle time of the login does not matter.
                MakerCredential::Login(id) => {
                    self.one::<Login>(org, id).is_some_and(|login| now < login.facts.expires)
                }
            };
            user.may_sign_in() && user.role == Role::Admin && has_credential
        })
    }

    /// The user of a login, if they may sign in.
    fn user_of_login(&self, login: &Record<Login>) -> Option<&Arc<Record<User>>> {
        self.one::<User>(&login.org, login.user.id()?).filter(|user| user.may_sign_in())
    }
}

/// When a login ends if it is not used.
pub fn idle_until(login: &Record<Login>, idle: Duration) -> Timestamp {
    let end = SignedDuration::try_from(idle).ok();
    let end = end.and_then(|idle| login.facts.last_used.checked_add(idle).ok());
    end.unwrap_or(Timestamp::MAX).min(login.facts.expires)
}

fn has_user(view: &View, login: &Record<Login>) -> bool {
    login.user.id().is_some_and(|user| view.one::<User>(&login.org, user).is_some())
}

fn is_login_live(login: &Record<Login>, idle: Duration, now: Timestamp) -> bool {
    now < idle_until(login, idle)
}

fn is_past(since: Timestamp, wait: Duration, now: Timestamp) -> bool {
    SignedDuration::try_from(wait).is_ok_and(|wait| now.duration_since(since) >= wait)
}

fn may_not_sign_in(user: &str) -> Refusal {
    let rule = format!("must name an active user who is no end user, and `{user}` is not one");
    Refusal::new("user", rule).hint("`keyward user list` shows roles and states")
}
