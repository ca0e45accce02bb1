//! Sign-in with a password, and with a one-time code if the user has a key. Unknown users, those without a password and
//! those with another one get the same answer after the same time.

use super::attempt::{AuthenticatedUser, Browser};
use super::limits::{CodeTry, PasswordTry, network};
use crate::auth::named_org;
use crate::change_record::PendingRecord;
use crate::error::ApiError;
use crate::request_refusal::RequestRefusal;
use keyward_base::id::OrgId;
use keyward_base::secret::Secret;
use keyward_model::{SignInMethod, User};
use keyward_state::directory::TotpError;

/// What a user gives to sign in with a password.
pub(super) struct PasswordProof {
    /// `NAME`, or `ORG/NAME`: a form cannot send `Keyward-Org`, and no name has a `/`.
    pub(super) user: String,
    pub(super) password: Secret,
    pub(super) code: Option<Secret>,
}

impl Browser<'_> {
    pub(super) async fn by_password(
        &self,
        PasswordProof { user: given, password, code }: PasswordProof,
        record: &mut PendingRecord,
    ) -> Result<AuthenticatedUser, ApiError> {
        let (deps, limits) = (self.admin.deps(), self.admin.sign_in_limits());
        if !deps.sign_in.password {
            return Err(RequestRefusal::PasswordOff.into());
        }
        let (named, name) = match given.split_once('/') {
            Some((org, name)) => (OrgId::named(org).ok(), name),
            None => {
                let org = named_org(self.fields).ok();
                (org.map(|org| org.unwrap_or_else(OrgId::default_org)), given.as_str())
            }
        };
        let (view, network) = (deps.directory.view(), network(self.visit.client));
        let user = named.as_ref().and_then(|org| view.find::<User>(org, name)).cloned();
        let is_known = user.as_ref().is_some_and(|user| user.facts.networks.contains(&network));
        let org = named.as_ref().map_or("", |org| org.name());
        // A user has one budget, by name and by id.
        let tried = user.as_ref().map_or(name, |user| user.id.as_str());
        limits.try_password(PasswordTry { org, user: tried, network, is_known })?;
        let known = user.as_ref().filter(|user| user.may_sign_in());
        let known = known.and_then(|user| user.facts.password.clone());
        let is_right = limits.matches(password, known.clone()).await?;
        let Some(user) = user else { return Err(RequestRefusal::PasswordWrong.into()) };
        record.set_user(&user);
        let Some(known) = known.filter(|_| is_right) else {
            return Err(RequestRefusal::PasswordWrong.into());
        };
        let method = match user.facts.totp.is_some() {
            false => SignInMethod::Password,
            true => {
                let code = code.ok_or(RequestRefusal::CodeMissing)?;
                limits.try_code(CodeTry { user: user.id.as_str(), network, is_known })?;
                let used = deps.directory.use_totp(&user.org, &user.id, &code).await;
                used.map_err(|error| match error {
                    TotpError::NoKey | TotpError::WrongCode => RequestRefusal::CodeWrong.into(),
                    TotpError::Directory(error) => ApiError::from(error),
                })?;
                SignInMethod::PasswordTotp
            }
        };
        if !is_known {
            deps.directory.know_network(&user.org, &user.id, network, &known).await?;
        }
        Ok(AuthenticatedUser { password: Some(known), ..AuthenticatedUser::new(user, method) })
    }
}
