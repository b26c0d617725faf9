package agentapi

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
)

// Recheck looks at the tokens of an agent's open requests again: those whose token is
// no longer valid end, those whose token was replaced end with it, and so do sessions
// under a name that has changed. A token that cannot be looked up counts as no longer
// valid: the agent comes back.
func (s *Service) Recheck(ctx context.Context, agentID uuid.UUID) {
	for token, open := range s.sessions.byToken(agentID) {
		id, err := s.o.Catalog.AgentByToken(ctx, token)
		for _, o := range open {
			switch {
			case err != nil || id.Agent.ID != agentID:
				o.end(errDropped)
			case s.sessions.isOutOfDate(o, shownOf(id)):
				s.o.Publisher.WorkspaceChanged(id.Workspace.ID)
				o.end(errDropped)
			default:
				s.sessions.endAt(o, id.TokenEnds)
			}
		}
	}
}

// shownAs is what is shown of an agent, and what its history is kept under.
type shownAs struct{ agent, workspace, owner, template string }

func shownOf(id catalog.Identity) shownAs {
	return shownAs{id.Agent.Name, id.Workspace.Name, id.Owner.Username, id.Workspace.Template.Name}
}

// show notes what is shown of a session.
func (s *sessions) show(o *openSession, as shownAs) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.shown = as
}

// isOutOfDate says whether something else is shown of a session.
func (s *sessions) isOutOfDate(o *openSession, as shownAs) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return o.shown != shownAs{} && o.shown != as
}

// RecheckAll is Recheck for every agent that is here.
func (s *Service) RecheckAll(ctx context.Context) {
	for _, id := range s.sessions.here() {
		s.Recheck(ctx, id)
	}
}

// identify reads again who opened a request, now that a change of it ends the request:
// what was read before that may be out of date. The request ends with its token.
func (s *Service) identify(ctx context.Context, o *openSession) (catalog.Identity, error) {
	id, err := s.o.Catalog.AgentByToken(ctx, o.token)
	if err == nil {
		s.sessions.endAt(o, id.TokenEnds)
	}
	return id, err
}

// endAt ends an open request when its token ends. The zero time is never, and changes
// nothing: a token that was replaced meanwhile may have got its end from Recheck.
func (s *sessions) endAt(o *openSession, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := o.of.open[o.number]; !open {
		return
	}
	if at.IsZero() {
		return
	}
	if o.timer != nil {
		o.timer.Stop()
	}
	o.timer = time.AfterFunc(time.Until(at), func() { o.end(errDropped) })
}

// byToken returns the open requests of an agent.
func (s *sessions) byToken(agent uuid.UUID) map[string][]*openSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := make(map[string][]*openSession)
	if of := s.agents[agent]; of != nil {
		for _, o := range of.open {
			m[o.token] = append(m[o.token], o)
		}
	}
	return m
}

// here returns the agents with open requests.
func (s *sessions) here() []uuid.UUID {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]uuid.UUID, 0, len(s.agents))
	for id := range s.agents {
		ids = append(ids, id)
	}
	return ids
}
