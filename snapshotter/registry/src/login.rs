//! Whether a registry accepts a login, asked before the login is stored.

use reqwest::Method;

use crate::auth::Scopes;
use crate::client::{Client, Plan, Server};
use crate::error::{Error, Result, Subject};
use crate::hosts::Capability;
use crate::names::Repository;
use crate::transport::Call;

impl Client {
    /// Shows the login for `registry` (`docker.io`, `127.0.0.1:5000`) to it: `GET /v2/`, the check
    /// of distribution-spec, "Determining Support". Mirrors are not asked.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] or [`Error::Denied`] for a login that is not accepted, and
    /// [`Error::Name`] for what is no host.
    pub async fn check_login(&self, registry: &str) -> Result<()> {
        let subject = Subject::login(Repository::all_of(registry)?);
        let mut plan = Plan::new(self, &subject, Capability::Push)?;
        loop {
            let server = plan.server();
            match self.check_login_at(&server, &subject).await {
                Ok(()) => return Ok(()),
                Err(error) => plan.failed(error).await?,
            }
        }
    }

    async fn check_login_at(&self, server: &Server, subject: &Subject) -> Result<()> {
        let call = Call::new(Method::GET, server.endpoint.base.clone());
        // No rights: a token that names who asks is enough.
        let reply = self
            .send(server, subject, &Scopes::default(), &call)
            .await?;
        match reply.status() {
            200 => Ok(()),
            404 => Err(Error::Protocol {
                subject: subject.clone(),
                server: server.endpoint.server(),
                reason: "it has no /v2/, so it is no registry".to_owned(),
            }),
            _ => Err(self.refusal(reply, subject).await),
        }
    }
}
