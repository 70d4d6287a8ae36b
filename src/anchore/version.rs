//! `GET /version`: which generation of the API a server speaks. Asked without credentials.

use serde::Deserialize;

use super::answer::BodyEnd;
use super::endpoint::ApiGeneration;
use super::exchange::Answer;

/// The generation an answer to `/version` tells; `None` when the answer is not one of Anchore's. Servers that name no API
/// version, or another than 2, have the older path.
pub(super) fn generation(answer: &Answer) -> Option<ApiGeneration> {
    if !answer.status.is_success() || answer.body.end != BodyEnd::Complete {
        return None;
    }
    let versions: Versions = serde_json::from_slice(&answer.body.bytes).ok()?;
    let is_v2 = versions.api.and_then(|api| api.version).is_some_and(|version| version == "2");
    Some(if is_v2 { ApiGeneration::V2 } else { ApiGeneration::V1 })
}

#[derive(Deserialize)]
struct Versions {
    api: Option<Api>,
}

#[derive(Deserialize)]
struct Api {
    version: Option<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;
    use crate::anchore::answer::AnswerBody;

    fn answer(status: StatusCode, body: &str) -> Answer {
        let body = AnswerBody { bytes: body.as_bytes().to_vec(), end: BodyEnd::Complete };
        Answer { status, headers: HeaderMap::new(), body }
    }

    #[rstest]
    #[case(
        r#"{"service": {"version": "5.23.0"}, "api": {"version": "2"}, "db": {"schema_version": "5230"}}"#,
        ApiGeneration::V2
    )]
    #[case(r#"{"service": {"version": "4.8.1"}, "api": {}}"#, ApiGeneration::V1)]
    #[case(r#"{"service": {"version": "4.8.1"}}"#, ApiGeneration::V1)]
    #[case(r#"{"api": {"version": "1"}}"#, ApiGeneration::V1)]
    #[case(r#"{"api": {"version": 2}}"#, ApiGeneration::V1)]
    fn the_api_version_decides(#[case] body: &str, #[case] generation: ApiGeneration) {
        assert_eq!(super::generation(&answer(StatusCode::OK, body)), Some(generation));
    }

    #[rstest]
    #[case(200, "<html>Anchore</html>")]
    #[case(200, "")]
    #[case(200, "[]")]
    #[case(404, r#"{"api": {"version": "2"}}"#)]
    #[case(302, "")]
    fn an_answer_of_something_else_tells_nothing(#[case] status: u16, #[case] body: &str) {
        assert_eq!(generation(&answer(StatusCode::from_u16(status).unwrap(), body)), None);
    }
}
