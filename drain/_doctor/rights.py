"""What an account may do, by the Roles and bindings that were read."""

from typing import TYPE_CHECKING

from drain._doctor.fields import Object, mappings, text, texts
from drain._doctor.selectors import may_be

if TYPE_CHECKING:
    from drain._doctor.model import Thing, Workload


def granted(workload: "Workload", verb: str, resource: str, namespace: str) -> bool | None:
    """In that namespace, by the Roles that were read. Known only where something here is about that account."""
    around, account = workload.around, workload.account
    bindings = [
        each
        for each in around.of("RoleBinding", "ClusterRoleBinding")
        if (each.kind == "ClusterRoleBinding" or may_be(each.namespace, namespace)) and _binds(each, workload)
    ]
    at_home = may_be(workload.thing.namespace, namespace)  # another namespace's Roles may be in its own manifests
    known = at_home and any(
        each.name == account and each.beside(workload.thing) for each in around.of("ServiceAccount")
    )
    if not bindings and not known:
        return None
    rules: list[Object] = []
    for each in bindings:
        kind, name = text(each.body, "roleRef", "kind"), text(each.body, "roleRef", "name")
        roles = [role for role in around.of(kind) if role.name == name and (kind == "ClusterRole" or role.beside(each))]
        if not roles:
            return None  # a role that is somewhere else
        rules += [rule for role in roles for _, rule in mappings(role.body, "rules")]
    group = "discovery.k8s.io" if resource == "endpointslices" else ""
    return any(
        not {verb, "*"}.isdisjoint(texts(rule, "verbs"))
        and not {resource, "*"}.isdisjoint(texts(rule, "resources"))
        and not {group, "*"}.isdisjoint(texts(rule, "apiGroups"))
        for rule in rules
    )


def _binds(binding: "Thing", workload: "Workload") -> bool:
    for _, each in mappings(binding.body, "subjects"):
        named = text(each, "kind") == "ServiceAccount" and text(each, "name") == workload.account
        where = text(each, "namespace")
        if named and may_be(where, workload.thing.namespace):
            return True
    return False
