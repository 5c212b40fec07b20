"""TEMPORARY: this build of kube-apiserver refuses empty strings in custom resources."""
def strip(v):
    if isinstance(v, dict):
        return {k: strip(x) for k, x in v.items() if x != ""}
    if isinstance(v, list):
        return [strip(x) for x in v]
    return v
def wrap(api):
    create, patch = api.create, api.patch
    async def c(rt, body, **k):
        return await create(rt, strip(body) if rt.group == "ararat.dev" else body, **k)
    async def p(rt, name, body, **k):
        return await patch(rt, name, strip(body) if rt.group == "ararat.dev" else body, **k)
    api.create, api.patch = c, p
    return api
