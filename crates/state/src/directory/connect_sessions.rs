//! Connect sessions: all their changes, the look-up by link and by browser, and the removal of those that have ended.
//! Each is opened once and completed once; it may fail several times before.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use super::collection::ConnectSessionAt;
use super::error::DirectoryError;
use super::index::{Index, NameKind, Unique};
use super::stored::{Stored, stored_in};
use super::view::View;
use super::{Directory, check};
use crate::crypto::token::{self, TokenHash};
use crate::store::Table;
use keyward_base::id::OrgId;
use keyward_base::secret::Secret;
use keyward_model::{
    BoundBrowser, CONNECT_SESSION_KEPT, CONNECT_SESSION_LIFE, ConnectSession, ConnectSessionFacts,
    ConnectSessionSpec, Connected, Connection, ManagedBy, Record, Reference, Refusal, RefusedCall,
    User,
};

/// Longest stored reason of a failure.
const REASON_CHARS_MAX: usize = 500;

/// A new connect session, with the token of its link, which is shown once.
#[derive(Debug)]
pub struct NewConnectSession {
    pub session: Arc<Record<ConnectSession>>,
    /// The token of its link.
    pub token: Secret,
}

/// Why a step of a connect session is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConnectStepError {
    /// Another browser opened it.
    #[error("this link was opened in another browser")]
    OtherBrowser,
    /// It has expired, was completed, or has failed too often.
    #[error("this link has ended")]
    Ended,
    /// The store failed, or the session was removed.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

impl Stored for ConnectSession {
    const TABLE: Table = Table::ConnectSessions;
    const NAMED: NameKind = NameKind::Session;

    stored_in!(connect_sessions);

    /// Connect sessions have no name and are found by id.
    fn full_name(record: &Record<Self>) -> Cow<'_, str> {
        Cow::Borrowed(record.id.as_str())
    }

    fn unique(_: &Record<Self>, _: &Index) -> Vec<Unique> {
        Vec::new()
    }

    fn add_to_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        for hash in hashes(record) {
            let at = ConnectSessionAt { org: record.org.clone(), id: record.id.clone() };
            view.connect_tokens.put(hash, at, |at| at.id == record.id);
        }
    }

    fn remove_from_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        for hash in hashes(record) {
            view.connect_tokens.remove(&hash, |at| at.id == record.id);
        }
    }

    /// Runs with the write lock, so that the named records cannot be removed meanwhile.
    fn may_add(record: &Record<Self>, view: &View) -> Result<(), DirectoryError> {
        let user = view.connecting_user(record).ok_or_else(|| {
            let hint = "an end user of your platform: `keyward user add NAME --role end_user`";
            Refusal::new("user", "must name an active user").hint(hint)
        })?;
        let Some(named) = &record.connection else { return Ok(()) };
        let found = view.named::<Connection>(&record.org, named)?;
        check::editor(found.managed_by, ManagedBy::Store, "connection", &found.name)?;
        if found.facts.owner.as_ref() != Some(&user.id) {
            let (name, user) = (&found.name, user.name());
            let rule = format!("must belong to `{user}`, and `{name}` does not");
            let hint = format!("`keyward connection set {name} --owner {user}` changes its owner");
            return Err(Refusal::new("connection", rule).hint(hint).into());
        }
        Ok(())
    }
}

/// The hashes that find a connect session.
fn hashes(record: &Record<ConnectSession>) -> impl Iterator<Item = TokenHash> {
    let browser = record.facts.browser.as_ref().map(|browser| &*browser.hash);
    [Some(&*record.facts.hash), browser].into_iter().flatten().filter_map(TokenHash::from_hex)
}

impl Directory {
    /// Makes a connect session with an issued link. `max`: how many the organisation may have; ended ones are removed
    /// early to make room. `for_refusal`: the gateway itself adds it, for this refused request.
    ///
    /// # Errors
    /// When the spec is refused, or there are too many.
    pub async fn add_connect_session(
        &self,
        org: &OrgId,
        spec: ConnectSessionSpec,
        max: usize,
        for_refusal: Option<RefusedCall>,
    ) -> Result<NewConnectSession, DirectoryError> {
        let (token, now) = (token::issue_connect_token(), self.shared.clock.now());
        let expires = now.saturating_add(CONNECT_SESSION_LIFE).unwrap_or(Timestamp::MAX);
        let facts = ConnectSessionFacts::new(TokenHash::of_secret(&token).to_hex(), expires);
        let facts = ConnectSessionFacts { for_refusal, ..facts };
        let record = Record::<ConnectSession>::new(org, ManagedBy::Store, spec, facts, now);
        if self.view().all::<ConnectSession>(org).count() >= max {
            let view = self.view();
            let ended = view.all::<ConnectSession>(org).filter(|it| !it.facts.is_live(now));
            for session in ended.filter(|it| it.facts.draft.is_none()) {
                self.forget_connect_session(session).await?;
            }
        }
        let session = self.write(move |writer| async move {
            match writer.view.load().all::<ConnectSession>(&record.org).count() < max {
                true => writer.add(record).await,
                false => Err(DirectoryError::TooManyConnectSessions { max }),
            }
        });
        Ok(NewConnectSession { session: session.await?, token })
    }

    /// Connect sessions that may be removed: they ended long ago, or their user was removed or paused. The caller must
    /// first remove their drafts and consents.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn removable_connect_sessions(
        &self,
    ) -> Result<Vec<Arc<Record<ConnectSession>>>, DirectoryError> {
        let (view, now) = (self.view(), self.shared.clock.now());
        let is_recent = |it: &Record<ConnectSession>| {
            let until = it.facts.expires.saturating_add(CONNECT_SESSION_KEPT);
            until.is_ok_and(|until| now < until)
        };
        let is_kept =
            |it: &Record<ConnectSession>| is_recent(it) && view.connecting_user(it).is_some();
        let all = view.each_org().flat_map(|org| org.connect_sessions.values());
        let candidates: Vec<_> = all.filter(|it| !is_kept(it)).collect();
        let mut removable = Vec::new();
        for session in candidates {
            if !is_recent(session) || !self.has_connecting_user(session).await? {
                removable.push(Arc::clone(session));
            }
        }
        Ok(removable)
    }

    /// Whether the user of a connect session exists in the store and is not paused there.
    async fn has_connecting_user(
        &self,
        session: &Record<ConnectSession>,
    ) -> Result<bool, DirectoryError> {
        if let Some(user) = session.user.as_ref().and_then(Reference::id) {
            self.follow_record::<User>(&session.org, user).await?;
        }
        Ok(self.view().connecting_user(session).is_some())
    }

    /// Connect sessions that have ended and still have a draft or a consent.
    pub fn ended_connect_sessions(&self) -> Vec<Arc<Record<ConnectSession>>> {
        let (view, now) = (self.view(), self.shared.clock.now());
        let all = view.each_org().flat_map(|org| org.connect_sessions.values());
        let has_left = |it: &&Arc<Record<ConnectSession>>| {
            let facts = &it.facts;
            !facts.is_live(now) && (facts.draft.is_some() || facts.flow.is_some())
        };
        all.filter(has_left).cloned().collect()
    }

    /// Removes a connect session, unless it was removed meanwhile.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_connect_session(
        &self,
        session: &Record<ConnectSession>,
    ) -> Result<(), DirectoryError> {
        let by = ManagedBy::Store;
        let removed = self.remove::<ConnectSession>(&session.org, &session.id, by).await;
        DirectoryError::unless_removed(removed)
    }

    /// Binds a connect session to a browser; of several browsers, the first one wins. The same page may do so again.
    ///
    /// # Errors
    /// When another browser opened it, or it has ended.
    pub async fn open_connect_session(
        &self,
        session: &Record<ConnectSession>,
        browser: BoundBrowser,
    ) -> Result<Arc<Record<ConnectSession>>, ConnectStepError> {
        let now = self.shared.clock.now();
        let open = |record: &mut Record<ConnectSession>| {
            if !record.facts.opens_for(browser.page.as_deref()) {
                return Err(ConnectStepError::OtherBrowser);
            }
            if !record.facts.is_live(now) {
                return Err(ConnectStepError::Ended);
            }
            record.facts.browser = Some(browser.clone());
            Ok(())
        };
        self.edit::<ConnectSession, _>(&session.org, &session.id, &open).await
    }

    /// Stores the draft and the consent of an attempt. The failure of the previous attempt is removed.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn begin_connecting(
        &self,
        session: &Record<ConnectSession>,
        begin: impl Fn(&mut ConnectSessionFacts) + Sync,
    ) -> Result<Arc<Record<ConnectSession>>, ConnectStepError> {
        let now = self.shared.clock.now();
        let begin = |record: &mut Record<ConnectSession>| {
            if !record.facts.is_live(now) {
                return Err(ConnectStepError::Ended);
            }
            record.facts.failure = None;
            begin(&mut record.facts);
            Ok(())
        };
        self.edit::<ConnectSession, _>(&session.org, &session.id, &begin).await
    }

    /// Completes a connect session; of several attempts, the first one wins.
    ///
    /// # Errors
    /// When another attempt completed it.
    pub async fn complete_connect_session(
        &self,
        session: &Record<ConnectSession>,
        connection: &Record<Connection>,
    ) -> Result<Arc<Record<ConnectSession>>, ConnectStepError> {
        let connected = Connected {
            id: connection.id.clone(),
            name: connection.name.clone(),
            provider: connection.provider.clone(),
            at: self.shared.clock.now(),
        };
        let complete = |record: &mut Record<ConnectSession>| {
            let facts = &mut record.facts;
            match &facts.connected {
                Some(known) if known.id != connected.id => return Err(ConnectStepError::Ended),
                Some(_) => {}
                None => facts.connected = Some(connected.clone()),
            }
            (facts.flow, facts.failure) = (None, None);
            facts.draft = facts.draft.take().filter(|draft| *draft != connected.id);
            Ok(())
        };
        self.edit::<ConnectSession, _>(&session.org, &session.id, &complete).await
    }

    /// Notes that an attempt has failed. `why` quotes nothing secret.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn fail_connect_session(
        &self,
        session: &Record<ConnectSession>,
        why: &str,
    ) -> Result<Arc<Record<ConnectSession>>, DirectoryError> {
        let why: String = why.chars().take(REASON_CHARS_MAX).collect();
        let fail = |record: &mut Record<ConnectSession>| {
            let facts = &mut record.facts;
            if facts.connected.is_none() {
                facts.failure = Some(why.clone());
                facts.failures = facts.failures.saturating_add(1);
            }
            facts.flow = None;
        };
        self.change::<ConnectSession>(&session.org, &session.id, fail).await
    }

    /// Records that the draft and the consent of an attempt were removed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tidy_connect_session(
        &self,
        session: &Record<ConnectSession>,
    ) -> Result<(), DirectoryError> {
        let tidy = |record: &mut Record<ConnectSession>| {
            (record.facts.draft, record.facts.flow) = (None, None);
        };
        let changed = self.change::<ConnectSession>(&session.org, &session.id, tidy).await;
        DirectoryError::unless_removed(changed)
    }

    /// Marks its code as exchanged.
    ///
    /// # Errors
    /// When it was exchanged before.
    pub async fn exchange_connect_session(
        &self,
        session: &Record<ConnectSession>,
    ) -> Result<Arc<Record<ConnectSession>>, ConnectStepError> {
        let exchange = |record: &mut Record<ConnectSession>| match record.facts.exchanged {
            true => Err(ConnectStepError::Ended),
            false => {
                record.facts.exchanged = true;
                Ok(())
            }
        };
        self.edit::<ConnectSession, _>(&session.org, &session.id, &exchange).await
    }
}

impl View {
    pub fn connect_session_of_link(&self, token: &str) -> Option<&Arc<Record<ConnectSession>>> {
        let hash = TokenHash::of(token);
        let found = self.connect_session_at(&hash)?;
        is_of(&found.facts.hash, &hash).then_some(found)
    }

    /// The connect session that the browser with this cookie opened.
    pub fn connect_session_of_browser(&self, cookie: &str) -> Option<&Arc<Record<ConnectSession>>> {
        let hash = TokenHash::of(cookie);
        let found = self.connect_session_at(&hash)?;
        let browser = found.facts.browser.as_ref()?;
        is_of(&browser.hash, &hash).then_some(found)
    }

    fn connect_session_at(&self, hash: &TokenHash) -> Option<&Arc<Record<ConnectSession>>> {
        let at = self.connect_tokens.get(hash)?;
        self.one::<ConnectSession>(&at.org, &at.id)
    }

    /// The user whom a connect session is for, unless removed or paused.
    pub fn connecting_user(&self, session: &Record<ConnectSession>) -> Option<&Arc<Record<User>>> {
        let user = self.one::<User>(&session.org, session.user.as_ref()?.id()?)?;
        (!user.paused).then_some(user)
    }

    /// Like [`Self::connecting_user`]; `None` also if the connection to be reconnected was removed or has another
    /// owner.
    pub fn entitled_user(&self, session: &Record<ConnectSession>) -> Option<&Arc<Record<User>>> {
        let user = self.connecting_user(session)?;
        let Some(named) = &session.connection else { return Some(user) };
        let connection = self.connection(&session.org, named.id()?)?;
        (connection.facts.owner.as_ref() == Some(&user.id)).then_some(user)
    }
}

/// Compares in constant time.
fn is_of(known: &str, hash: &TokenHash) -> bool {
    TokenHash::from_hex(known).is_some_and(|known| known.matches(hash))
}
