"""Test the ``operationId`` of every operation. Generated clients name their methods after them."""

import re

from service.http.app_keys import DOCUMENT
from service.http.openapi.document import documented_routes
from tests.conftest import Client
from tests.document import read_document

# The operations of RealWorld 2.0.0 (https://github.com/realworld-apps/realworld, openapi.yml).
REALWORLD = {
    ("POST", "/api/users/login"): "Login",
    ("POST", "/api/users"): "CreateUser",
    ("GET", "/api/user"): "GetCurrentUser",
    ("PUT", "/api/user"): "UpdateCurrentUser",
    ("GET", "/api/profiles/{username}"): "GetProfileByUsername",
    ("POST", "/api/profiles/{username}/follow"): "FollowUserByUsername",
    ("DELETE", "/api/profiles/{username}/follow"): "UnfollowUserByUsername",
    ("GET", "/api/articles/feed"): "GetArticlesFeed",
    ("GET", "/api/articles"): "GetArticles",
    ("POST", "/api/articles"): "CreateArticle",
    ("GET", "/api/articles/{slug}"): "GetArticle",
    ("PUT", "/api/articles/{slug}"): "UpdateArticle",
    ("DELETE", "/api/articles/{slug}"): "DeleteArticle",
    ("GET", "/api/articles/{slug}/comments"): "GetArticleComments",
    ("POST", "/api/articles/{slug}/comments"): "CreateArticleComment",
    ("DELETE", "/api/articles/{slug}/comments/{id}"): "DeleteArticleComment",
    ("POST", "/api/articles/{slug}/favorite"): "CreateArticleFavorite",
    ("DELETE", "/api/articles/{slug}/favorite"): "DeleteArticleFavorite",
    ("GET", "/api/tags"): "GetTags",
}


def operation_ids(client: Client) -> dict[tuple[str, str], str]:
    routes = documented_routes(client.http.app)
    return {(method, path): handler.operation.operation_id for method, path, handler in routes}


def test_operation_ids_of_realworld_are_its_own(client: Client) -> None:
    ids = operation_ids(client)
    assert {route: ids.get(route) for route in REALWORLD} == REALWORLD


def test_operation_ids_are_unique_and_begin_with_a_verb(client: Client) -> None:
    ids = sorted(operation_ids(client).values())
    assert len(ids) == len(set(ids))
    verbs = (
        "Begin|Complete|Confirm|Create|Decline|Delete|Exchange|Follow|Get|Introspect|Link|List|Lock"
        "|Login|Logout|Reauthenticate|Refresh|Replace|Report|Reset|Revoke|Send|Unfollow|Unlink"
        "|Unlock|Update|Verify"
    )
    assert [each for each in ids if not re.fullmatch(rf"({verbs})([A-Z][a-z]+)*", each)] == []


def test_summaries_begin_with_a_verb_and_are_short(client: Client) -> None:
    document = read_document(client.http.app[DOCUMENT])
    summaries = [
        operation["summary"]
        for methods in document.data["paths"].values()
        for operation in methods.values()
    ]
    verbs = (
        "Begin|Change|Check|Confirm|Create|Delete|Exchange|Favorite|Follow|Get|Link|List|Lock|Log|Register"
        "|Replace|Report|Reset|Revoke|Send|Unfavorite|Unfollow|Unlink|Unlock|Update|Verify"
    )
    pattern = rf"(?:{verbs}) [^.:;]{{2,80}}"
    assert [summary for summary in summaries if not re.fullmatch(pattern, summary)] == []
