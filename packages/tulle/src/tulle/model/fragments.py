"""The union of everything a dialect can lower an object to."""

from __future__ import annotations

from typing import TypeAlias

from tulle.model.access import AccessPolicy, OperationSet, PeerPolicy, TokenPolicy
from tulle.model.grants import Grant
from tulle.model.intentions import IntentionSet
from tulle.model.policies import DestinationPolicy
from tulle.model.routes import RouteSet
from tulle.model.servers import CallerSet, NamespaceDefault, ServerGrant, ServerPort, ServerRoute
from tulle.model.services import EndpointSet, Service
from tulle.model.settings import CallerPolicy, SettingsPatch
from tulle.model.workloads import Process, Workload

Fragment: TypeAlias = (
    Service
    | EndpointSet
    | Workload
    | Process
    | RouteSet
    | DestinationPolicy
    | AccessPolicy
    | OperationSet
    | PeerPolicy
    | TokenPolicy
    | SettingsPatch
    | CallerPolicy
    | Grant
    | IntentionSet
    | ServerPort
    | ServerGrant
    | CallerSet
    | ServerRoute
    | NamespaceDefault
)
