"""`make tenant NAME=acme`: a machine client for one more tenant, in the user pool that a stack has made.

    NAME     the tenant
    STACK    a stack in AWS, with the credentials and the region of the environment; without it, the local stack

Makes the scope tenant/<name> and a client that may ask for it and for no other, lets the API accept its tokens, and shows id and secret
once. Where the tenant has a client already, its scope and its right are made sure of, and no secret is shown.
"""

import os
import re
import sys

from emulator import Failure, say
from stack import STACK, client, outputs_of, running

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")  # as FirstTenant in template.yaml
SCOPES = "tenant"  # the resource server of template.yaml, TenantScopes
MOST = 50  # audiences of an HTTP API's authorizer


def clients(stack: str):
    """A function that makes clients of services: of the local stack, or of AWS as the environment says."""
    if stack == STACK:
        port, _ = running()
        return lambda service: client(service, port)
    import botocore.session

    return botocore.session.Session().create_client


def outputs(service, stack: str) -> dict:
    outs = outputs_of(service("cloudformation"), stack)
    if "UserPoolId" not in outs:
        raise Failure(f"{stack} has an issuer of its own (TokenIssuer): tenants are made there.")
    return outs


def ensure_scope(pools, pool: str, name: str) -> None:
    server = pools.describe_resource_server(UserPoolId=pool, Identifier=SCOPES)["ResourceServer"]
    scopes = server.get("Scopes", [])
    if name not in [scope["ScopeName"] for scope in scopes]:
        scopes.append({"ScopeName": name, "ScopeDescription": f"Acts for the tenant {name}"})
        pools.update_resource_server(UserPoolId=pool, Identifier=SCOPES, Name=server["Name"], Scopes=scopes)


def existing(pools, pool: str, name: str) -> str | None:
    """The client of a tenant: the one that has its scope."""
    for page in pools.get_paginator("list_user_pool_clients").paginate(UserPoolId=pool):
        for listed in page["UserPoolClients"]:
            found = pools.describe_user_pool_client(UserPoolId=pool, ClientId=listed["ClientId"])["UserPoolClient"]
            if found.get("AllowedOAuthScopes") == [f"{SCOPES}/{name}"]:
                return found["ClientId"]
    return None


def lifetime(pools, pool: str, pattern: str) -> dict:
    """For how long tokens are valid, as for the stack's first tenant."""
    first = pools.describe_user_pool_client(UserPoolId=pool, ClientId=pattern)["UserPoolClient"]
    # The emulator has it as the text that the template's parameter is.
    return {"AccessTokenValidity": int(first["AccessTokenValidity"]), "TokenValidityUnits": first["TokenValidityUnits"]}


def accept(apis, api: str, client_id: str) -> list[str]:
    """Lets the API accept the tokens of a client; returns all whose tokens it accepts."""
    (authorizer,) = apis.get_authorizers(ApiId=api)["Items"]
    jwt = authorizer["JwtConfiguration"]
    audience = jwt["Audience"]
    if client_id not in audience:
        if len(audience) >= MOST:
            raise Failure(f"An HTTP API accepts {MOST} clients, and has them: use an issuer of your own (TokenIssuer).")
        audience = [*audience, client_id]
        apis.update_authorizer(ApiId=api, AuthorizerId=authorizer["AuthorizerId"], JwtConfiguration={"Issuer": jwt["Issuer"], "Audience": audience})
    return audience


def main() -> int:
    name, stack = os.environ.get("NAME", ""), os.environ.get("STACK") or STACK
    if not NAME.fullmatch(name):
        print("NAME is a tenant's: lower-case letters, digits and dashes, at most 63. make tenant NAME=acme", file=sys.stderr)
        return 2
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        service = clients(stack)
        outs = outputs(service, stack)
        pools, pool = service("cognito-idp"), outs["UserPoolId"]
        ensure_scope(pools, pool, name)
        client_id, secret = existing(pools, pool, name), None
        if not client_id:
            made = pools.create_user_pool_client(
                UserPoolId=pool, ClientName=name, GenerateSecret=True, AllowedOAuthFlowsUserPoolClient=True, AllowedOAuthFlows=["client_credentials"],
                AllowedOAuthScopes=[f"{SCOPES}/{name}"], **lifetime(pools, pool, outs["FirstTenantClientId"]),
            )["UserPoolClient"]
            client_id, secret = made["ClientId"], made["ClientSecret"]
        audience = accept(service("apigatewayv2"), outs["ApiId"], client_id)
    except (Failure, BotoCoreError, ClientError) as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    say(f"tenant         {name}\nclient_id      {client_id}")
    say(f"client_secret  {secret}\n\nKeep the secret: it is not shown again." if secret else f"\n{name} has this client already.")
    more = [it for it in audience if it not in (outs["FirstTenantClientId"], outs.get("SecondTenantClientId"))]
    if more:
        say(f"From the next deployment on: MoreClients={','.join(more)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
