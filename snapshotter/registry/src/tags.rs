//! The tags of a repository: distribution-spec, "Listing Tags", page by page.

use reqwest::header::LINK;
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::client::{Client, Plan, Server};
use crate::error::{Error, Result, Subject};
use crate::hosts::Capability;
use crate::names::{Repository, Tag};
use crate::transport::Call;

/// Most tags of a repository that are listed: somebody who wants all of more wants something else.
const TAGS_MAX: usize = 100_000;

/// What a registry answers.
#[derive(Debug, Deserialize)]
struct Page {
    /// `null` where there are none.
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Client {
    /// All tags of a repository, in the order in which the registry tells them.
    ///
    /// # Errors
    /// See [`Error`]. A repository that does not exist is [`Error::is_not_found`].
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>> {
        let subject = Subject::tags(repository);
        let mut plan = Plan::new(self, &subject, Capability::Resolve)?;
        loop {
            let server = plan.server();
            match self.tags_at(&server, &subject).await {
                Ok(tags) => return Ok(tags),
                Err(error) => plan.failed(error).await?,
            }
        }
    }

    async fn tags_at(&self, server: &Server, subject: &Subject) -> Result<Vec<Tag>> {
        let repository = subject.repository();
        let mut next = Some(server.url(repository, "tags/list"));
        let mut tags: Vec<Tag> = Vec::new();
        while let Some(url) = next {
            let call = Call::new(Method::GET, url.clone());
            let scopes = server.scopes(repository, "pull");
            let mut reply = self.send(server, subject, &scopes, &call).await?;
            if reply.status() != 200 {
                return Err(self.refusal(reply, subject).await);
            }
            let wrong = |reason: String| Error::Protocol {
                subject: subject.clone(),
                server: server.endpoint.server(),
                reason,
            };
            let link = reply.header(LINK).map(str::to_owned);
            let bytes = reply.bytes(self.limits().manifest_bytes_max).await?;
            let page: Page = serde_json::from_slice(&bytes)
                .map_err(|error| wrong(format!("its list of tags is none: {error}")))?;
            let before = tags.len();
            for tag in page.tags.unwrap_or_default() {
                tags.push(tag.parse()?);
            }
            if tags.len() > TAGS_MAX {
                return Err(wrong(format!("it lists more than {TAGS_MAX} tags")));
            }
            next = match link.as_deref().and_then(next_page) {
                // Whoever sends nothing new would send it for ever.
                Some(_) if tags.len() == before => None,
                Some(place) => Some(page_at(&url, place).ok_or_else(|| {
                    let place = crate::error::shortened(place);
                    wrong(format!("the next page of its tags is elsewhere: {place}"))
                })?),
                None => None,
            };
        }
        Ok(tags)
    }
}

/// The target of `Link: </v2/…>; rel="next"` (RFC 8288).
fn next_page(link: &str) -> Option<&str> {
    let (place, parameters) = link.strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.split(';').any(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or_default();
        name.trim() == "rel" && value.trim().trim_matches('"') == "next"
    });
    is_next.then_some(place)
}

/// A page that the same server has: to no other goes the login.
fn page_at(now: &Url, place: &str) -> Option<Url> {
    let url = now.join(place).ok()?;
    (url.origin() == now.origin()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_where_the_link_says() {
        for (link, expected) in [
            (
                "</v2/a/tags/list?n=2&last=b>; rel=\"next\"",
                Some("/v2/a/tags/list?n=2&last=b"),
            ),
            ("</x>;rel=next", Some("/x")),
            ("</x>; title=\"a\"; rel=\"next\"", Some("/x")),
            ("</x>; rel=\"prev\"", None),
            ("/x; rel=\"next\"", None),
            ("", None),
        ] {
            assert_eq!(next_page(link), expected, "{link}");
        }
    }

    #[test]
    fn a_page_of_another_server_is_none() {
        let now = Url::parse("https://h:5000/v2/a/tags/list").unwrap();
        for (place, expected) in [
            (
                "/v2/a/tags/list?last=b",
                Some("https://h:5000/v2/a/tags/list?last=b"),
            ),
            ("https://h:5000/v2/x", Some("https://h:5000/v2/x")),
            ("https://h/v2/x", None),
            ("http://h:5000/v2/x", None),
            ("//evil/v2/x", None),
        ] {
            let found = page_at(&now, place).map(String::from);
            assert_eq!(found.as_deref(), expected, "{place}");
        }
    }
}
