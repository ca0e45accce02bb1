//! Bodies that a policy decision depends on: the references of a push, and GraphQL operations.

use std::sync::Arc;

use super::held_body::hold;
use super::inbound::Inbound;
use super::push_start;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use keyward_rules::git_push::RequestedPush;
use keyward_rules::graphql::Operations;
use keyward_rules::policy::PolicyQuery;

impl Inbound {
    /// Reads what the decision depends on: the references of a push, or the GraphQL operations of another body. The body
    /// that is sent is the one that was judged. `false`: they are known.
    ///
    /// # Errors
    /// When the body is too large or never ends.
    pub async fn read_body(&mut self, gateway: &Gateway) -> Result<bool, Refusal> {
        // Not shared yet: streams depend on the query of a permit, and this one has none.
        if RequestedPush::is_push(&self.query.method, &self.query.path) {
            if self.query.push.is_some() {
                return Ok(false);
            }
            let refs = push_start::read(gateway, self).await?;
            let mut query = PolicyQuery::clone(&self.query);
            query.push = Some(refs);
            self.query = Arc::new(query);
            return Ok(true);
        }
        if self.query.operations.is_some() {
            return Ok(false);
        }
        let body = hold(gateway, self).await?;
        let fields = &self.head.headers;
        let operations = Operations::read(fields, self.head.uri.query(), &body);
        let mut query = PolicyQuery::clone(&self.query);
        query.operations = Some(operations);
        self.query = Arc::new(query);
        Ok(true)
    }
}
