"""Brings a backup back: plan, objects, gated pods, node jobs, and what came of it.

Where things are, in the order in which a restore meets them:

``stored``    an API object as the backup holds it, and how a stored tree is read
``skips``     what is never brought back, and why
``order``     in which order kinds are created
``transform`` from a stored object to the one to create (``metadata``, ``pods``, ``claims``,
              ``workloads``, ``services``, ``references`` are its parts)
``data``      which volume's data the backup has for a claim or a pod's volume
``plan``      what will be done, as data; ``planner`` makes it from manifest, objects, cluster
              (``planned_claims`` and ``planned_pods`` decide for those; ``places``: where an
              object goes, ``drafts``: as it will be created, ``notes``: what there is to say)
``gate``      the init container that holds a pod until its volumes are filled
``create``    creates one object, tolerantly; ``pipeline`` does so for a whole plan
``jobs``      which node jobs the gated pods need; ``waiting`` why one does not move
``progress``  the state of a restore, from what is seen, as its status shows it
``reconcile`` drives all this, level-triggered; every line may be the controller's last
"""
