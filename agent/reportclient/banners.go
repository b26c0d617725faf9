package reportclient

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
)

// bannerInterval is how often the banners are asked for.
const bannerInterval = 2 * time.Minute

// banners are asked for again and again. Only deliver calls next.
type banners struct {
	until   context.Context // a stopping agent greets nobody
	log     *slog.Logger
	asked   time.Time
	current atomic.Pointer[[]*agentpb.BannerConfig]
}

// Banners returns the announcement banners that the server last named.
func (c *Client) Banners() []*agentpb.BannerConfig {
	if b := c.banners.current.Load(); b != nil {
		return *b
	}
	return nil
}

// next is a sender's.
func (b *banners) next(ctx context.Context, api agentpb.DRPCAgentClient) (sent bool, due time.Time, err error) {
	if b.until.Err() != nil {
		return false, time.Time{}, nil
	}
	if due := b.asked.Add(bannerInterval); time.Now().Before(due) {
		return false, due, nil
	}
	b.asked = time.Now()
	resp, err := api.GetAnnouncementBanners(ctx, &agentpb.GetAnnouncementBannersRequest{})
	switch {
	case err == nil:
		v := resp.GetAnnouncementBanners()
		b.current.Store(&v)
	case ctx.Err() != nil || wire.IsUnimplemented(err):
		return false, time.Time{}, err
	default:
		b.log.Warn("get announcement banners", "err", err)
	}
	return true, time.Time{}, nil
}
