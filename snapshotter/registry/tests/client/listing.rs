//! The tags of a repository.

use crate::support::docker_registry::DockerRegistry;
use crate::support::fake_server::{Fake, Response};
use crate::support::{assert_says, client, repository};

#[tokio::test]
async fn all_pages_of_tags_are_read() {
    let fake = Fake::start(|request| match &*request.path {
        "/v2/a/tags/list" => Response::new(200, r#"{"name":"a","tags":["1","2"]}"#)
            .header("link", "</v2/a/tags/list?last=2>; rel=\"next\""),
        "/v2/a/tags/list?last=2" => Response::new(200, r#"{"name":"a","tags":["3"]}"#),
        _ => Response::new(404, ""),
    })
    .await;
    let found = client()
        .tags(&repository(&fake.address, "a"))
        .await
        .unwrap();
    let found: Vec<_> = found.iter().map(|tag| tag.as_str()).collect();
    assert_eq!(found, ["1", "2", "3"]);
    assert_eq!(fake.count("GET /v2/a/tags"), 2);
}

#[tokio::test]
async fn a_list_of_tags_without_end_or_elsewhere_is_not_followed() {
    let fake = Fake::start(|request| match request.path.starts_with("/v2/a/") {
        true => {
            Response::new(200, r#"{"tags":null}"#).header("link", "</v2/a/tags/list>; rel=\"next\"")
        }
        false => Response::new(200, r#"{"tags":["x"]}"#)
            .header("link", "<http://127.0.0.1:1/v2/b/tags/list>; rel=\"next\""),
    })
    .await;
    let client = client();
    let found = client.tags(&repository(&fake.address, "a")).await.unwrap();
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(fake.count("GET /v2/a/"), 1);
    let elsewhere = client.tags(&repository(&fake.address, "b")).await;
    assert_says(elsewhere, &["the tags of", "is elsewhere"]);
}

#[tokio::test]
async fn what_is_no_list_of_tags_or_no_tag_is_an_error() {
    for body in ["[]x", r#"{"tags":[1]}"#, r#"{"tags":["../x"]}"#] {
        let fake = Fake::start(move |_| Response::new(200, body)).await;
        let found = client().tags(&repository(&fake.address, "a")).await;
        assert!(found.is_err(), "{body}");
    }
}

#[tokio::test]
async fn a_repository_that_is_not_there_has_no_tags() {
    let registry = DockerRegistry::start();
    let unknown = repository(&registry.address, "nothing");
    let error = client().tags(&unknown).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
}
