import time
from drain._kube import reflector
from drain._kube.api import Api
from tests.kube._cluster.namespace import Slice
def test_x(cluster, reader, follow, monkeypatch):
    t0=time.monotonic()
    def say(*a): print(f"{time.monotonic()-t0:.3f}", *a)
    for n in ("list","watch"):
        real=getattr(Api,n)
        def w(self,*a,real=real,n=n,**k):
            say(n,"->",a[:3])
            try: r=real(self,*a,**k)
            except Exception as e: say(n,"!",repr(e)); raise
            say(n,"ok"); return r
        monkeypatch.setattr(Api,n,w)
    od=reflector.Reflector._do
    def do(self,eff,out,h):
        say("effect",eff.name,h.what.name,h.message[:100],out.rest, h.version)
        return od(self,eff,out,h)
    monkeypatch.setattr(reflector.Reflector,"_do",do)
    known = follow("kubernetes:///web:50051")
    reader.put("web", Slice(name="web-1", addresses=["198.19.128.1"]))
    known.until(["198.19.128.1"])
    bad=False
    for number in range(6):
        cluster.kill_apiserver(); say("killed"); cluster.start_apiserver(); ready=time.monotonic(); say("READY")
        reader.put("web", Slice(name="web-1", addresses=[f"198.19.128.{number + 2}"]))
        say("PUT")
        known.until([f"198.19.128.{number + 2}"])
        say("SEEN", time.monotonic() - ready)
        bad |= time.monotonic()-ready>1.5
    assert not bad
